"""Free means free: a device goes to the next one only with its memory, and what holds it back is said to all."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from gpu_kit import GPU_A, GPU_B, A, B

from sweep.slots.health import Health, HeldBack, holder_name, judge
from sweep.slots.provider import Reading

GIB = 1 << 30


def reading(used: float, pids: tuple[int, ...] | None = ()) -> Reading:
    return Reading({"memory_used": used * GIB, "memory_total": 80.0 * GIB}, pids)


@pytest.mark.parametrize(
    ("used", "pids", "alone", "free_memory", "word"),
    [
        (0.01, (), True, None, "ok"),
        (7.9, (), True, None, "ok"),
        (8.1, (), True, None, "quarantined"),
        (8.1, (), False, None, "ok"),
        (8.1, (), True, 0.8, "ok"),
        (1.0, (), True, 0.99, "quarantined"),
        (0.05, (), True, 1.0, "ok"),
        (0.05, None, True, None, "ok"),
        (0.1, None, True, None, "quarantined"),
        (0.1, None, False, None, "ok"),
        (0.1, None, True, 0.9, "ok"),
        (8.1, None, True, 0.9, "quarantined"),
    ],
)
def test_how_much_memory_must_be_free(
    used: float, pids: tuple[int, ...] | None, alone: bool, free_memory: float | None, word: str
) -> None:
    assert judge(reading(used, pids), [], alone=alone, free_memory=free_memory).word == word


def test_a_cpu_share_has_no_memory_of_its_own() -> None:
    assert judge(Reading(), [], alone=True, free_memory=1.0).word == "ok"


def test_the_word_in_a_lock_file_lasts_and_may_be_anything() -> None:
    last = {"sweep": "ocr-1", "trial": 3, "user": "ann"}
    first = HeldBack.anew(Health("quarantined", "9 MiB are in use"), last, 100.0)
    assert first.why == "9 MiB are in use and have not come back since trial 3 of ocr-1 (ann) ended"
    again = HeldBack.anew(Health("quarantined", "8 MiB are in use"), first.facts(), 111.0)
    assert (again.since, again.at, again.after) == (100.0, 111.0, last)
    assert first.settling and not again.settling
    assert not HeldBack.anew(Health("quarantined", "8 MiB are in use"), {}, 100.0).settling, (
        "nobody has just ended"
    )
    for nonsense in ({}, {"held_back": 1}, {"held_back": {"why": "", "since": "now", "at": 1, "after": {}}}):
        assert HeldBack.read(nonsense) is None
    assert holder_name({}) == "a process of somebody" and holder_name({"sweep": "x-1"}) == "x-1"


def test_a_device_goes_back_only_when_its_memory_is_back(fake_nvml: Any, remote: Any, tmp_path: Path) -> None:
    fake_nvml.write(A, B)
    here = remote()
    here.run("pool.FRESH = pool.REFUSED = 0; from sweep.slots import health; health.SETTLE = 0.3")
    here.run("os.close(p.acquire(p.slots[0], {'sweep': 'ocr-1', 'trial': 3, 'user': 'ann'}))")
    fake_nvml.write(f"{A} used=20000", B)
    assert here("p.acquire(p.slots[0], {})") is None and here("p.holder(p.slots[0])") is None
    assert here("p.trouble") == {}, "it may come back by itself"
    assert here("p.acquire(p.slots[1], {})") is not None
    time.sleep(0.35)
    assert here("p.acquire(p.slots[0], {})") is None
    why = "20000 MiB of its memory are in use and have not come back since trial 3 of ocr-1 (ann) ended"
    assert here("p.trouble") == {GPU_A: why}
    assert here("[tuple(one.health) for one in Survey(environ, locks).look()]") == [
        ["quarantined", why],
        ["ok", ""],
    ]
    here.run("from sweep.slots.survey import held_back")
    said = "[(slot, word.why) for slot, word in held_back({'SWEEP_LOCK_DIR': str(locks)})]"
    assert here(said) == [["gpu-aaaaaaaa-0", why]]
    fake_nvml.write(f"{A} used=5", B)
    assert here("Survey(environ, locks).look()[0].health.word") == "ok"
    assert here("p.acquire(p.slots[0], {'sweep': 'ocr-2'})") is not None and here("p.trouble") == {}
    assert here(said) == []
    assert json.loads((tmp_path / "locks" / "gpu-aaaaaaaa-0").read_text())["sweep"] == "ocr-2"
    here.run("health.SETTLE = 10.0")


def test_what_was_read_during_an_attempt_says_nothing_about_what_it_leaves(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A)
    here = remote()
    here.run("pool.FRESH = 3600; lease = p.acquire(p.slots[0], {'sweep': 'ocr-1'})")
    assert here("p.measure()")[GPU_A]["memory_used"] == 4 << 20
    fake_nvml.write(f"{A} used=20000")
    here.run("os.close(lease)")
    assert here("p.acquire(p.slots[0], {})") is None


def test_space_yaml_says_how_much_must_be_free(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(f"{A} used=20000")
    assert remote()("p.acquire(p.slots[0], {})") is None
    assert remote("kind='gpu', free_memory=0.7")("p.acquire(p.slots[0], {})") is not None


def test_nobody_waits_behind_a_device_that_is_too_full_for_whoever_came_first(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(f"{A} used=5000", B)
    strict = remote("kind='gpu', free_memory=0.99")
    strict.run("pool.GLANCE = pool.FRESH = 0; held = p.acquire(p.slots[1], {})")
    assert strict("p.acquire(p.slots[0], {})") is None and strict("p.acquire(p.slots[1], {})") is None
    strict.run("other = open_pool(Devices(), 1, environ, locks)")
    assert strict("other.acquire(other.slots[0], {})") is not None
    strict.run("os.close(held)")
    assert strict("other.acquire(other.slots[1], {})") is None, "for that one it waits"
    assert strict("p.acquire_all(1, {})[0][0].index") == 1
    strict.run("pool.GLANCE = 0.05; other.close()")


def test_the_survey_takes_nothing_and_makes_nothing(fake_nvml: Any, remote: Any, tmp_path: Path) -> None:
    fake_nvml.write(A, f"{B} error=15")
    here = remote()
    here.run("fresh = Path(locks) / 'not' / 'there'")
    assert here("[(one.device.id, one.places) for one in Survey({}, fresh).look()]") == [
        [GPU_A, [{"slot": "gpu-aaaaaaaa-0", "holder": None}]]
    ]
    assert here("Survey({}, fresh).left_out") == [
        "GPU 1 is left out: the GPU is lost: it does not answer on the bus"
    ]
    assert not (tmp_path / "locks" / "not").exists()
    assert list((tmp_path / "locks").iterdir()) == [tmp_path / "locks" / "waiting"]


def test_the_survey_shows_shares_hidden_devices_cpu_shares_and_what_cannot_be_seen(
    fake_nvml: Any, remote: Any, sleeper: subprocess.Popen[bytes]
) -> None:
    fake_nvml.write(A, B, f"proc gpu=1 pid={sleeper.pid}")
    here = remote(shares=3)
    here.run("lease = p.acquire(p.slots[2], {'sweep': 'ocr-1', 'trial': 4})")
    here.run("cpus = open_pool(Devices(kind='cpu', count=9), 1, environ, locks)")
    here.run("cpu_lease = cpus.acquire(cpus.slots[8], {})")
    here.run("elsewhere = p._leases.acquire('gpu-dddd.0')")
    found = here("Survey({'CUDA_VISIBLE_DEVICES': 'GPU-bbbb'}, locks).look()")
    assert [one["device"]["slot"] for one in found] == ["gpu-aaaaaaaa-0", "gpu-bbbbbbbb-0", "cpu-8", "gpu-dddd"]
    shares = {place["slot"]: (place["holder"] or {}).get("trial") for place in found[0]["places"]}
    assert shares == {"gpu-aaaaaaaa-0.0": None, "gpu-aaaaaaaa-0.1": 4, "gpu-aaaaaaaa-0.2": None}
    assert [one["health"][0] for one in found] == ["hidden", "foreign", "ok", "unreadable"]
    assert found[1]["foreign"] == [sleeper.pid]
    assert here("Survey({'CUDA_VISIBLE_DEVICES': 'GPU-bbbb'}, locks).auto") == [GPU_B]
    assert here("Survey({'CUDA_VISIBLE_DEVICES': ''}, locks).auto[0]") == "cpu-0"


def test_several_devices_are_taken_together_or_not_at_all(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B)
    here = remote()
    here.run("other = open_pool(Devices(), 1, environ, locks)")
    here.run("pool.GLANCE = 0")
    here.run("one = other.acquire(other.slots[1], {})")
    assert here("p.acquire_all(2, {})") is None and here("p.holder(p.slots[0])") is None
    assert here("other.acquire(other.slots[0], {})") is None, "who came later does not take what is waited for"
    here.run("os.close(one)")
    here.run("both = p.acquire_all(2, {})")
    assert here("[slot.index for slot, _ in both]") == [0, 1]
    here.run("from sweep.slots.bundle import together")
    env = here("together([slot for slot, _ in both]).env")
    assert env["CUDA_VISIBLE_DEVICES"] == f"{GPU_A},{GPU_B}"
    assert int(env["OMP_NUM_THREADS"]) == 2 * here("p.slots[0].threads")
    here.run("other.close(); [os.close(lease) for _, lease in both]")
