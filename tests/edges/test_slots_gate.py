"""The administrator's policy: what it says, whom it names, and that leases keep to it."""

from __future__ import annotations

import os
import pwd
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from sweep.config import policy
from sweep.config.model import Devices
from sweep.config.policy import Allowance, allowance
from sweep.errors import DeviceError
from sweep.slots.gate import open_leases
from sweep.slots.opening import open_pool
from sweep.slots.pool import Pool
from sweep.slots.survey import Survey

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "policy.yaml"
    monkeypatch.setattr(policy, "FILE", file)
    return file.write_text


def opened(tmp_path: Path, cpus: int = 4, per_trial: int = 1) -> Pool:
    return open_pool(Devices(kind="cpu", count=cpus), 1, {}, tmp_path / "locks", per_trial=per_trial)


def test_without_a_file_all_is_allowed(written: object) -> None:
    assert allowance() is None


def test_every_rule_that_names_a_user_holds_and_the_narrowest_wins(written) -> None:
    group = subprocess.run(["id", "-gn"], capture_output=True, text=True).stdout.strip()
    written(f"""
lock_dir: /run/lock/sweep
rules:
- {{count: 4, quiet: ["1:00-2:00"]}}
- {{users: [{ME}], count: 2, devices: [0, cpu]}}
- {{groups: ["{group}"], count: 3, devices: [GPU-aaaa, gpu]}}
- {{users: [somebody-else], groups: [no-such-group], count: 1}}
""")
    assert allowance() == Allowance("/run/lock/sweep", (("0", "cpu"), ("GPU-aaaa", "gpu")), 2, ("1:00-2:00",))
    stranger = allowance(uid=987654)
    assert stranger is not None and (stranger.count, stranger.devices) == (4, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [{count: 0}]", "rules.0.count"),
        ("rules: [{quiet: ['25:00-26:00']}]", "rules.0.quiet.0: a time of day to another"),
        ("rules: [{user: [ann]}]", "rules.0.user"),
        ("rules: 7", "rules: "),
        ("", "is empty"),
        ("rules: [", "policy.yaml"),
    ],
)
def test_a_file_that_is_no_policy_refuses_everybody(text: str, said: str, written, tmp_path: Path) -> None:
    written(text)
    with pytest.raises(DeviceError) as error:
        opened(tmp_path)
    assert said in error.value.message and "cannot be read" in error.value.message


@pytest.mark.parametrize(
    ("lists", "kind", "index", "uuid", "may"),
    [
        ((), "gpu", 3, "GPU-abcdef", True),
        ((("3",),), "gpu", 3, "GPU-abcdef", True),
        ((("0",),), "gpu", 3, "GPU-abcdef", False),
        ((("gpu",), ("0",)), "gpu", 3, "GPU-abcdef", False),
        ((("GPU-abc",),), "gpu", 3, "GPU-abcdef", True),
        ((("GPU",),), "gpu", 3, "GPU-abcdef", False),
        ((("npu",),), "gpu", 3, "GPU-abcdef", False),
        ((("cpu",),), "cpu", 3, "cpu-3", True),
        ((("3",),), "cpu", 3, "cpu-3", False),
    ],
)
def test_which_devices_are_permitted(
    lists: tuple[tuple[str, ...], ...], kind: str, index: int, uuid: str, may: bool
) -> None:
    assert Allowance(devices=lists).permits(kind, index, uuid) is may


@pytest.mark.parametrize(
    ("window", "hour", "until"),
    [
        ("22:00-06:00", "23:30", "06:00"),
        ("22:00-06:00", "05:59", "06:00"),
        ("22:00-06:00", "06:00", ""),
        ("22:00-06:00", "21:59", ""),
        ("9:00 - 17:30", "12:00", "17:30"),
        ("9:00 - 17:30", "17:30", ""),
        ("0:00-0:00", "12:00", "00:00"),
    ],
)
def test_quiet_hours(window: str, hour: str, until: str) -> None:
    assert Allowance(quiet=(window,)).silence(datetime.fromisoformat(f"2026-01-01T{hour}")) == until


def test_nobody_gets_more_devices_at_once_than_the_policy_says_over_all_sweeps(written, tmp_path: Path) -> None:
    written("rules: [{count: 2}]")
    one, other = opened(tmp_path), opened(tmp_path)
    assert one.said.endswith(f"; by {policy.FILE} 2 devices at once.")
    leases = [one.acquire(one.slots[0], {}), other.acquire(other.slots[1], {"user": "not-me"})]
    assert None not in leases
    for pool in (one, other):
        assert pool.acquire(pool.slots[2], {}) is None
        assert pool.bar.startswith("you have 2 of the 2 devices that you may have at once")
    assert not list((tmp_path / "locks" / "waiting").iterdir()), "nobody waits behind who may not have more"
    os.close(leases[0])  # type: ignore[arg-type]
    assert one._leases.acquire("cpu-3") is not None
    assert other._leases.acquire("cpu-2") is None, "the lock is taken first, and counted second"


@pytest.mark.parametrize("user", [None, 65534])
def test_a_lease_that_outlived_its_taker_counts_for_whoever_has_it(
    user: int | None, written, tmp_path: Path
) -> None:
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    written("rules: [{count: 1}]")
    pool = opened(tmp_path)
    lease = pool.acquire(pool.slots[0], {"user": "somebody", "pid": 1})
    assert lease is not None
    holder = subprocess.Popen(["sleep", "60"], pass_fds=[lease], user=user)
    try:
        os.close(lease)
        pool._leases._counted = (0.0, set())  # type: ignore[attr-defined]
        assert (pool.acquire(pool.slots[1], {}) is None) is (user is None)
    finally:
        holder.kill()
        holder.wait()


def test_a_further_share_of_a_device_that_one_has_is_no_further_device(written, tmp_path: Path) -> None:
    written("rules: [{count: 1}]")
    leases = open_leases({}, tmp_path)
    first = leases.acquire("gpu-a.0")
    assert first is not None and leases.acquire("gpu-b.0") is None
    assert leases.barred(1, "gpu-b.0") and not leases.barred(1, "gpu-a.1")
    assert leases.acquire("gpu-a.1") is not None
    os.close(first)


def test_what_could_never_be_had_is_refused_at_once(written, tmp_path: Path) -> None:
    written("rules: [{count: 2}]")
    with pytest.raises(DeviceError, match=r"3 devices at once wanted, but you may have 2 .*policy.yaml"):
        opened(tmp_path, per_trial=3)
    written("rules: [{devices: [gpu]}]")
    with pytest.raises(DeviceError, match=r"gives you no CPU share: by .*policy.yaml only gpu"):
        opened(tmp_path)


def test_in_quiet_hours_nothing_is_leased(written, tmp_path: Path) -> None:
    written("rules: [{quiet: ['0:00-0:00']}]")
    pool = opened(tmp_path)
    assert pool.acquire(pool.slots[0], {}) is None and pool.acquire_all(2, {}) is None
    assert pool.bar == "nothing is started until 00:00 (/etc/sweep/policy.yaml)"
    assert pool._leases.acquire("cpu-0") is None


def test_another_lock_folder_does_not_widen_it(written, tmp_path: Path) -> None:
    written(f"{{lock_dir: {tmp_path / 'counted'}, rules: [{{count: 1}}]}}")
    for environ in ({"SWEEP_LOCK_DIR": str(tmp_path / "mine")},):
        with pytest.raises(DeviceError, match=r"leases are counted in .*counted"):
            open_pool(Devices(kind="cpu", count=1), 1, environ)
        with pytest.raises(DeviceError, match="leases are counted in"):
            Survey(environ)
    open_pool(Devices(kind="cpu", count=1), 1, {"SWEEP_LOCK_DIR": str(tmp_path / "counted")})
    assert (tmp_path / "counted").is_dir() and not (tmp_path / "mine").exists()


def test_the_survey_tells_what_one_may_have(written, tmp_path: Path) -> None:
    written("rules: [{count: 2, devices: [cpu, 0], quiet: ['1:00-2:00']}]")
    survey = Survey({}, tmp_path)
    assert survey.policy == f"by {policy.FILE} only cpu or 0; 2 devices at once; nothing is started 1:00-2:00"
