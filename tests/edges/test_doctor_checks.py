"""Checks of `sweep doctor` whose faults need another machine: its /proc, /sys and /dev are made up here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweep.cli.doctor import devices, limits, places
from sweep.cli.doctor.stores import database

GB = 1 << 30
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build  (root@host)\n"


def write(root: Path, **files: str) -> None:
    """By path, with `__` for a slash."""
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's library is not there, whatever this machine has."""
    import pynvml

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    def load(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    monkeypatch.setattr(devices.ctypes, "CDLL", load)


def test_no_gpu_is_no_fault_but_a_card_without_a_driver_is(tmp_path: Path) -> None:
    assert [one.state for one in devices.nvidia(tmp_path)] == ["ok"]
    write(tmp_path, sys__bus__pci__devices__a__vendor="0x10de\n", sys__bus__pci__devices__a__class="0x040300\n")
    assert [one.state for one in devices.nvidia(tmp_path)] == ["ok"], "its sound device only"
    write(tmp_path, sys__bus__pci__devices__b__vendor="0x10de\n", sys__bus__pci__devices__b__class="0x030200\n")
    [found] = devices.nvidia(tmp_path)
    assert found.state == "bad" and "an NVIDIA card on the bus, b" in found.what
    write(tmp_path, proc__driver__nvidia__version=MODULE)
    [found] = devices.nvidia(tmp_path)
    assert found.what.startswith("kernel module 550.54.15; ")
    write(tmp_path, proc__driver__nvidia__version=OPEN_MODULE)
    [found] = devices.nvidia(tmp_path)
    assert found.what.startswith("kernel module 570.86.10; ")


def test_device_files(tmp_path: Path) -> None:
    write(tmp_path, dev__nvidia0="", dev__nvidiactl="")
    *_, missing = devices.nvidia(tmp_path)
    assert (missing.topic, missing.state) == ("device files", "bad") and "nvidia-modprobe" in missing.mend
    (tmp_path / "dev/nvidia-uvm").touch()
    *_, whole = devices.nvidia(tmp_path)
    assert whole.state == "ok" and whole.what.startswith("3 of")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_device_files_of_another_user(tmp_path: Path) -> None:
    write(tmp_path, dev__nvidia0="", dev__nvidiactl="")
    (tmp_path / "dev/nvidia0").chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        *_, found = devices.nvidia(tmp_path)
    finally:
        os.seteuid(0)
    assert found.state == "bad" and "nvidia0" in found.what and "group" in found.mend


def test_a_memory_limit_of_a_cgroup(tmp_path: Path) -> None:
    most = psutil.virtual_memory().total // 2
    write(tmp_path, proc__self__cgroup="0::/box/job\n")
    write(tmp_path / "sys/fs/cgroup", **{"cgroup.controllers": "cpu memory", "box__memory.max": f"{most}\n"})
    write(tmp_path / "sys/fs/cgroup", **{"box__memory.current": "0\n", "box__job__memory.max": "max\n"})
    [found] = limits.cgroup(tmp_path)
    assert found.what.startswith("v2") and "memory limited to" in found.what and found.state == "ok"
    write(tmp_path / "sys/fs/cgroup", **{"box__memory.current": f"{most - 1}\n"})
    warned, _ = limits.cgroup(tmp_path)
    assert warned.state == "warn" and "killed" in warned.what


def test_no_limit_of_an_old_cgroup(tmp_path: Path) -> None:
    write(tmp_path, proc__self__cgroup="4:memory:/box\n3:cpu,cpuacct:/box\n")
    huge = {"box__memory.limit_in_bytes": "9223372036854771712\n", "box__memory.usage_in_bytes": "1\n"}
    write(tmp_path / "sys/fs/cgroup/memory", **huge)
    [found] = limits.cgroup(tmp_path)
    assert found.what.startswith("v1") and "not limited" in found.what


def test_who_holds_a_trial_to_its_memory(tmp_path: Path) -> None:
    [found] = limits.cgroup(tmp_path)
    assert "none for memory" in found.what and "by its supervisor" in found.what
    write(tmp_path, proc__self__cgroup="0::/box/job\n")
    top = {"cgroup.controllers": "cpu memory pids", "box__job__cgroup.procs": "1\n"}
    write(tmp_path / "sys/fs/cgroup", **top)
    [found] = limits.cgroup(tmp_path)
    assert "by its supervisor" in found.what and "systemd-run --user --scope" in found.what
    handed_on = {"box__cgroup.subtree_control": "memory\n", "box__cgroup.procs": ""}
    write(tmp_path / "sys/fs/cgroup", **handed_on)
    [found] = limits.cgroup(tmp_path)
    assert "`memory` of a trial is kept by the kernel; with `processes` as well, both by its" in found.what
    write(tmp_path / "sys/fs/cgroup", **{**handed_on, "box__cgroup.subtree_control": "memory pids\n"})
    [found] = limits.cgroup(tmp_path)
    assert "`memory` and `processes` of a trial are kept by the kernel" in found.what


def test_shared_memory_that_is_small_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = places.shared_memory(tmp_path / "none")
    assert found.state == "warn" and "--shm-size" in found.mend
    real = os.statvfs(tmp_path)
    small = os.statvfs_result([64 << 20 if i in (2, 3, 4) else one for i, one in enumerate([1, 1, *real[2:]])])
    monkeypatch.setattr(places.os, "statvfs", lambda place: small)
    [found] = places.shared_memory(tmp_path)
    assert found.state == "warn" and found.what.count("67.1 MB") == 1


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail, f_flag, f_namemax"""
    free = {"blocks": 1 << 30, "files": 1 << 20}

    def disk(place: Any) -> os.statvfs_result:
        return os.statvfs_result([4096, 4096, 1 << 30, 0, free["blocks"], 1 << 20, 0, free["files"], 0, 255])

    monkeypatch.setattr(places.os, "statvfs", disk)
    assert [one.state for one in places.project(tmp_path)] == ["ok"]
    free["files"] = 100
    [found] = places.project(tmp_path)
    assert found.state == "warn" and "100 more files" in found.what
    free["blocks"] = 100
    [found] = places.project(tmp_path)
    assert found.state == "bad" and "sweep clean" in found.mend
    assert list(tmp_path.iterdir()) == [], "no scratch file is left"


@pytest.mark.parametrize(
    ("url", "state", "says"),
    [
        ("postgresql+none://127.0.0.1/s", "bad", "postgresql+none"),
        ("sqlite:///missing/study.db", "bad", "missing"),
        ("sqlite:///study.db", "ok", "will be made"),
        ("no address at all", "bad", "no address"),
    ],
)
def test_addresses_of_databases(tmp_path: Path, url: str, state: str, says: str) -> None:
    found = database("storage", url, tmp_path)
    assert found.state == state and says in found.what and (state == "ok" or found.mend)
