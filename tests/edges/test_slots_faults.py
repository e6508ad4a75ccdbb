"""Devices out of service: what they say of themselves, what a sweep has found, and who must leave one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gpu_kit import GPU_A, GPU_B, A, B

from sweep.core.events import AttemptEnded, Evicted, SweepOpened
from sweep.core.machine import open_sweep
from sweep.core.model import Attempt, Outcome, Phase, Rules, Sweep, Trial
from sweep.errors import DeviceError
from sweep.slots.faults import Faults
from sweep.suspicion import Suspicion


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("ecc=3", "uncorrected errors of its memory since it was reset: 3"),
        ("unmapped=1", "a broken row of its memory could not be replaced"),
        ("retire=1", "broken pages of its memory wait for a reset to be retired"),
    ],
)
def test_what_a_gpu_says_of_its_memory_holds_it_back_until_it_is_healed(
    trouble: str, words: str, fake_nvml: Any, remote: Any
) -> None:
    fake_nvml.write(f"{A} {trouble}", f"{B} ecc=0 unmapped=0 retire=0")
    here = remote()
    assert [here(f"p.acquire(p.slots[{slot}], {{}}) is None") for slot in (0, 1)] == [True, False]
    assert here("p.trouble") == {GPU_A: words}
    assert here("[tuple(one.health) for one in Survey(environ, locks).look()]") == [["failed", words], ["ok", ""]]
    here.run(f"pool.REFUSED = 0; p._faults.heal('gpu-aaaaaaaa-0', {words!r})")
    assert here("p.acquire(p.slots[0], {}) is None") is False, "it is not held against it any more"


def test_more_errors_than_were_healed_hold_it_back_again(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    assert faults.of("gpu-a", "errors: 3") == "errors: 3"
    faults.heal("gpu-a", "errors: 3")
    assert (faults.of("gpu-a", "errors: 3"), faults.of("gpu-a", "errors: 4")) == ("", "errors: 4")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("code=79", "it fell off the bus (Xid 79)"),
        ("code=0", "an error of its memory could not be corrected (Xid 48)"),
        ("code=95", "an error of its memory could not be corrected, nor contained (Xid 95)"),
        *[(f"code={xid}", "") for xid in (13, 31, 43, 45, 63, 68, 69)],  # the program's, or mended
    ],
)
def test_what_befalls_a_gpu_takes_it_out_for_all_and_an_error_of_a_program_does_not(
    event: str, why: str, fake_nvml: Any, remote: Any
) -> None:
    fake_nvml.write(f"{A} ecc=0", B)
    here = remote()
    here.run("p.ward.leave(yields=False)")
    fake_nvml.write(f"{A} ecc=0", B, f"xid gpu=0 {event}")
    here.run("p.ward.leave(yields=False); other = open_pool(Devices(), 1, environ, locks)")
    assert here("p.acquire(p.slots[0], {}) is None and other.acquire(other.slots[0], {}) is None") is bool(why)
    assert here(f"p.ward.failing({GPU_A!r})").endswith(f": {why}" if why else "")
    assert bool(here(f"p.ward.failing({GPU_A!r})")) is bool(why) and not here(f"p.ward.failing({GPU_B!r})")
    here.run("p._faults.heal('gpu-aaaaaaaa-0'); p.ward.leave(yields=False); other.close()")
    assert not here(f"p.ward.failing({GPU_A!r})"), "it is told once"


def test_an_xid_takes_out_the_mig_instance_that_it_names_or_all(fake_nvml: Any, remote: Any) -> None:
    mig = [f"{A} mig=1", *(f"mig gpu=0 uuid=MIG-{letter} total=9728" for letter in "xyz")]
    fake_nvml.write(*mig)
    here = remote()
    here.run("p.ward.leave(yields=False)")
    fake_nvml.write(*mig, "xid gpu=0 code=94 instance=1")
    here.run("p.ward.leave(yields=False)")
    assert here("[bool(p.ward.failing(f'MIG-{letter}')) for letter in 'xyz']") == [False, True, False]
    fake_nvml.write(*mig, "xid gpu=0 code=94 instance=1", "xid gpu=0 code=79")
    here.run("p.ward.leave(yields=False)")
    assert here("[bool(p.ward.failing(f'MIG-{letter}')) for letter in 'xyz']") == [True, True, True]


def test_a_gpu_without_events_silences_no_other_and_a_driver_that_comes_back_is_listened_to(
    fake_nvml: Any, remote: Any
) -> None:
    fake_nvml.write(f"{A} deaf=1", B)
    here = remote()
    here.run("pool.RETRY = pool.FRESH = 0; p.ward.leave(yields=False)")
    fake_nvml.write("init error=9", A, B)
    here.run("p.ward.leave(yields=False); p.measure()")
    fake_nvml.write(f"{A} deaf=1", B, "xid gpu=1 code=79")
    here.run("p.measure(); p.ward.leave(yields=False)")
    assert not here(f"p.ward.failing({GPU_B!r})"), "nobody listened"
    fake_nvml.write(f"{A} deaf=1", B, "xid gpu=1 code=79", "xid gpu=0 code=79", "xid gpu=1 code=64")
    here.run("p.ward.leave(yields=False)")
    assert here(f"p.ward.failing({GPU_B!r})").endswith("could not be recorded (Xid 64)")
    assert not here(f"p.ward.failing({GPU_A!r})")


def test_who_is_out_of_service_is_so_for_every_sweep_until_healed(
    fake_nvml: Any, remote: Any, tmp_path: Path
) -> None:
    fake_nvml.write(A, B)
    here = remote()
    assert here(f"p.ward.take_out({GPU_A!r}, '3 trials failed on it', 'ocr-1')")
    here.run("other = open_pool(Devices(), 2, environ, locks)")
    refused = [here(f"other.acquire(other.slots[{slot}], {{}}) is None") for slot in range(4)]
    assert refused == [True, False, True, False]  # one slot of each, then the other
    (why,) = here("other.trouble").values()
    assert why.startswith("out of service since ") and why.endswith(": 3 trials failed on it")
    assert here(f"p.ward.failing({GPU_A!r})") == why and not here(f"p.ward.failing({GPU_B!r})")
    Faults(tmp_path / "locks").heal("gpu-aaaaaaaa-0")
    here.run("pool.REFUSED = 0")
    assert here("other.acquire(other.slots[0], {}) is None") is False
    here.run("other.close()")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_who_may_not_heal_is_told_who_may(tmp_path: Path) -> None:
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_mode & 0o777 == 0o700:
            place.chmod(0o755)
    faults = Faults(tmp_path)
    said = []
    for told in ("errors: 3", ""):  # first there is no file at all
        os.seteuid(65534)
        try:
            with pytest.raises(DeviceError) as caught:
                faults.heal("gpu-a", told)
        finally:
            os.seteuid(0)
        said.append(str(caught.value))
        faults.take_out("gpu-a", "it is broken")
    assert f"gpu-a cannot be healed: {tmp_path} is root's (Permission denied)" in said[0]
    assert "it was taken out by a sweep of root" in said[1]
    assert said[0].endswith("root can type `sweep devices heal`") and "or root" not in said[0]


def test_nonsense_in_the_folder_takes_nothing_out(tmp_path: Path) -> None:
    faults, out = Faults(tmp_path), tmp_path / "out"
    out.mkdir()
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"why": 7}'), ("d", '{"why": ""}')):
        (out / name).write_text(text)
        assert faults.of(name) == ""
    (tmp_path / "elsewhere").write_text('{"why": "x"}')
    (out / "e").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(out / "f")
    assert faults.of("e") == faults.of("f") == faults.of("not-there") == ""


def test_a_gpu_that_vanishes_fails_those_on_it_and_a_driver_that_only_keeps_silent_does_not(
    fake_nvml: Any, remote: Any
) -> None:
    fake_nvml.write(A, B)
    here = remote()
    here.run("from sweep.slots import ward; ward.PATIENCE = 0; pool.RETRY = 0; p.measure()")
    assert here("p.ward.leave(yields=False)") == {}
    fake_nvml.write(f"{A} error=999", B)
    here.run("pool.FRESH = 0; p.measure()")
    assert here("p.ward.leave(yields=False)") == {} and here(f"p.ward.failing({GPU_A!r})")
    fake_nvml.write(f"{A} error=15", B)
    here.run("p.measure()")
    assert here("p.ward.leave(yields=False)") == {GPU_A: "the GPU is lost: it does not answer on the bus"}
    fake_nvml.write(A, B)
    here.run("p.measure()")
    assert here("p.ward.leave(yields=False)") == {} and not here(f"p.ward.failing({GPU_A!r})")
    here.run("ward.PATIENCE = 5.0")


def test_who_computes_on_a_leased_device_makes_it_be_left_where_the_user_wants_that(
    fake_nvml: Any, remote: Any, sleeper: subprocess.Popen[bytes]
) -> None:
    fake_nvml.write(A, B)
    here = remote()
    here.run("from sweep.slots import ward; ward.PATIENCE = 0; pool.FRESH = 0")
    here.run("lease = p.acquire(p.slots[0], {'sweep': 'ocr-1'})")
    fake_nvml.write(A, B, f"proc gpu=0 pid={sleeper.pid}")
    here.run("p.measure()")
    assert here("p.ward.leave(yields=False)") == {}
    (left,) = here("p.ward.leave(yields=True)").items()
    assert left[0] == GPU_A and f"process {sleeper.pid} of " in left[1]
    here.run("ward.PATIENCE = 3600.0")
    assert here("p.ward.leave(yields=True)") == {}, "a moment is not enough"
    here.run("ward.PATIENCE = 5.0; os.close(lease)")


@dataclass
class Quiet:
    """A ward in which nothing happens but what the test says."""

    ill: dict[str, str] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    out: list[str] = field(default_factory=list)

    def failing(self, device: str) -> str:
        return self.ill.get(device, "")

    def leave(self, *, yields: bool) -> Mapping[str, str]:
        return self.away

    def take_out(self, device: str, why: str, sweep: str) -> bool:
        self.out.append(device)
        return True


def of_attempts(*devices: str) -> Sweep:
    """A trial for each, that has failed; the last one still runs."""
    sweep = open_sweep(SweepOpened(0.0, "s-1", Rules(("acc",), ("maximize",)), {}))
    for number, device in enumerate(devices):
        attempt = Attempt(1, device, device, Phase.ENDED, launched=1.0 * number, ended=number + 0.5)
        attempt.outcome = Outcome.COMPLETED if device == "good" else Outcome.CRASHED
        sweep.trials[number] = Trial(number, {}, attempts=[attempt])
    last = len(devices) - 1
    attempt.phase, attempt.outcome, attempt.ended = Phase.RUNNING, None, None
    sweep.live.add(last)
    return sweep


def test_who_fails_while_its_device_does_is_lost() -> None:
    sweep, said = of_attempts("one,two"), list[str]()
    suspicion = Suspicion(Quiet(ill={"two": "the GPU is lost"}), yields=False)
    end = AttemptEnded(9.0, 0, 1, code=1)
    assert suspicion.end(sweep, end, said.append).device_lost == "two: the GPU is lost"
    fine = AttemptEnded(9.0, 0, 1, code=0)
    assert suspicion.end(sweep, fine, said.append) == fine and said == []


def test_a_device_to_blame_is_taken_out_and_said_and_its_trial_is_lost() -> None:
    ward, said = Quiet(), list[str]()
    sweep = of_attempts(*["good"] * 13, "bad", "bad", "bad")
    end = Suspicion(ward, yields=False).end(sweep, AttemptEnded(99.0, 15, 1, code=1), said.append)
    assert ward.out == ["bad"] and end.device_lost.startswith("bad: 3 trials failed on it")
    assert "`sweep devices heal`" in said[0]


def test_several_devices_of_one_trial_are_not_to_blame_together() -> None:
    ward = Quiet()
    sweep = of_attempts(*["good"] * 13, "bad,worse", "bad,worse", "bad,worse")
    end = AttemptEnded(99.0, 15, 1, code=1)
    assert Suspicion(ward, yields=False).end(sweep, end, print) == end and ward.out == []


def test_who_must_leave_is_told_once() -> None:
    sweep = of_attempts("one,two")
    suspicion = Suspicion(Quiet(away={"two": "it is away"}), yields=True)
    (event,) = suspicion.look(sweep, 9.0)
    assert event == Evicted(9.0, 0, 1, "two: it is away")
    sweep.trials[0].attempts[0].phase = Phase.LAUNCHING
    assert list(suspicion.look(sweep, 9.0)) == []
