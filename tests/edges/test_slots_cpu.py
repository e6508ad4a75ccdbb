"""How many cores there are to share, and how `devices: cpu` cuts them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweep.config.model import Devices
from sweep.slots import cpu
from sweep.slots.opening import open_pool


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"
ME = "proc/self/cgroup"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({}, 8, id="no cgroups"),
        pytest.param({ME: "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, 8, id="v2, no quota"),
        pytest.param({ME: "0::/\n", f"{V2}/cpu.max": "300000 100000\n"}, 3, id="v2"),
        pytest.param({ME: "0::/\n", f"{V2}/cpu.max": "150000 100000\n"}, 2, id="half a core counts"),
        pytest.param({ME: "0::/\n", f"{V2}/cpu.max": "1000 100000\n"}, 1, id="never less than one"),
        pytest.param({ME: "0::/\n", f"{V2}/cpu.max": "6400000 100000\n"}, 8, id="quota above the affinity"),
        pytest.param(
            {ME: "0::/a/b\n", f"{V2}/a/cpu.max": "200000 100000", f"{V2}/a/b/cpu.max": "max 100000"},
            2,
            id="v2, the group above binds",
        ),
        pytest.param(
            {
                ME: "4:cpu,cpuacct:/job\n1:name=systemd:/job\n0::/job\n",
                f"{V1}/job/cpu.cfs_quota_us": "250000\n",
                f"{V1}/job/cpu.cfs_period_us": "50000\n",
            },
            5,
            id="v1",
        ),
        pytest.param(
            {ME: "4:cpu,cpuacct:/\n", f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"},
            8,
            id="v1, no quota",
        ),
        pytest.param(
            {
                ME: "4:cpu,cpuacct:/docker/0123\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
            id="v1 in a container: the host's path, the group as root of the mount",
        ),
    ],
)
def test_cores_are_the_affinity_cut_by_the_quota(
    files: dict[str, str], cores: int, tmp_path: Path, eight_cores: None
) -> None:
    assert cpu.cores(machine(tmp_path, files)) == cores


def test_cores_follow_the_affinity() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cpu.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("cores", "devices", "slots", "threads", "said"),
    [
        (8, Devices(kind="cpu"), 4, 2, "4 CPU slots of 2 cores each; set `devices: cpu:N` to change it."),
        (1, Devices(kind="cpu"), 1, 1, "1 CPU slot of 1 core; set `devices: cpu:N` to change it."),
        (8, Devices(kind="cpu", count=3), 3, 2, "3 CPU slots of 2 cores each."),
        (8, Devices(kind="cpu", count=1), 1, 8, "1 CPU slot of 8 cores."),
        (2, Devices(kind="cpu", count=6), 6, 1, "6 CPU slots share 2 cores, one thread each."),
    ],
)
def test_cpu_shares(
    cores: int,
    devices: Devices,
    slots: int,
    threads: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "cores", lambda: cores)
    pool = open_pool(devices, 1, {}, tmp_path)
    assert pool.said == said
    assert (
        [slot.id for slot in pool.slots]
        == [slot.device for slot in pool.slots]
        == [f"cpu-{k}" for k in range(slots)]
    )
    for slot in pool.slots:
        assert (slot.kind, slot.threads) == ("cpu", threads)
        assert {slot.env[name] for name in cpu.THREADS} == {str(threads)}
        assert slot.env["CUDA_VISIBLE_DEVICES"] == "", "who chose the CPU gets no GPU"
    assert pool.measure() == {} and pool.trouble == {}


def test_cpu_slots_are_leased_like_any_other(tmp_path: Path) -> None:
    pool, other = (open_pool(Devices(kind="cpu", count=2), 1, {}, tmp_path) for _ in range(2))
    first, second = pool.slots
    lease = pool.acquire(first, {"sweep": "a-1"})
    assert lease is not None
    assert other.acquire(first, {}) is None
    assert (other.holder(first) or {})["sweep"] == "a-1" and other.holder(second) is None
    pool.close()
    assert other.acquire(first, {}) is None, "a lease outlives the pool"
    os.close(lease)
    assert other.acquire(first, {}) is not None


def test_a_lock_file_that_cannot_be_used_is_trouble_in_words_not_an_exception(tmp_path: Path) -> None:
    pool = open_pool(Devices(kind="cpu", count=1), 1, {}, tmp_path)
    (tmp_path / "cpu-0").symlink_to("/etc/passwd")
    assert pool.acquire(pool.slots[0], {}) is None and pool.holder(pool.slots[0]) is None
    assert str(tmp_path / "cpu-0") in pool.trouble["cpu-0"]
    (tmp_path / "cpu-0").unlink()
    assert pool.acquire(pool.slots[0], {}) is not None and pool.trouble == {}
