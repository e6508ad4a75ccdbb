"""What only a real driver can show: NVML and CUDA mean the same GPU, and a pinned process sees no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweep.config.model import Devices
from sweep.errors import DeviceError
from sweep.slots.choice import visible
from sweep.slots.nvidia import Nvidia
from sweep.slots.opening import open_pool
from sweep.slots.provider import Device

# libcuda comes with the driver, so that no toolkit is needed. cuInit answers 100 where no device is visible.
CUDA = """
import ctypes, json, sys, uuid
cuda = ctypes.CDLL("libcuda.so.1")
def check(status):
    if status:
        sys.exit(f"CUDA error {status}")
if cuda.cuInit(0) == 100:
    print("[]")
    sys.exit()
count = ctypes.c_int()
check(cuda.cuDeviceGetCount(ctypes.byref(count)))
seen = []
for number in range(count.value):
    raw = (ctypes.c_ubyte * 16)()
    check(cuda.cuDeviceGetUuid(raw, number))
    seen.append(f"GPU-{uuid.UUID(bytes=bytes(raw))}")
print(json.dumps(seen), flush=True)
if "compute" in sys.argv:
    context, memory = ctypes.c_void_p(), ctypes.c_uint64()
    check(cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0))
    check(cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(256 << 20)))
    print("computes", flush=True)
    sys.stdin.read()
"""


def gpus() -> tuple[list[Device], str]:
    try:
        driver = Nvidia()
    except DeviceError as error:
        return [], error.message
    driver.close()
    return driver.devices(), ""


HERE, WHY = gpus()
pytestmark = pytest.mark.skipif(not HERE, reason=WHY)
PLAIN = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
# NVML's numbers are CUDA's only so.
BY_BUS = {**PLAIN, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def cuda_sees(env: dict[str, str]) -> list[str]:
    told = subprocess.run([sys.executable, "-c", CUDA], env=env, check=True, capture_output=True, text=True)
    return list(json.loads(told.stdout))


def test_nvml_and_nvidia_smi_tell_the_same() -> None:
    query = ["nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader"]
    told = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [f"{device.index}, {device.id}, {device.name}" for device in HERE] == told


def test_a_pinned_process_sees_its_gpu_and_no_other(tmp_path: Path) -> None:
    pool = open_pool(Devices(kind="gpu"), 1, PLAIN, tmp_path)
    assert [slot.device for slot in pool.slots] == [device.id for device in HERE]
    for slot in pool.slots:
        assert cuda_sees({**PLAIN, **slot.env}) == [slot.device]
    cpu = open_pool(Devices(kind="cpu"), 1, PLAIN, tmp_path)
    assert cuda_sees({**PLAIN, **cpu.slots[0].env}) == []


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "",
        "-1",
        "0,-1",
        "0,0",
        "0,99",
        "99,0",
        "0abc",
        "+0",
        "none",
        "{uuid}",
        "{short}",
        "GPU-",
        "{uuid},{uuid}",
    ],
)
def test_cuda_reads_cuda_visible_devices_as_we_do(value: str) -> None:
    value = value.format(uuid=HERE[0].id, short=HERE[0].id[:12])
    env = {**BY_BUS, "CUDA_VISIBLE_DEVICES": value}
    assert [device.id for device in visible(HERE, env)] == cuda_sees(env)


def test_measurements_are_in_their_units(tmp_path: Path) -> None:
    pool = open_pool(Devices(kind="gpu"), 1, PLAIN, tmp_path)
    measured = pool.measure()
    assert list(measured) == [device.id for device in HERE] and pool.trouble == {}
    for numbers in measured.values():
        assert 0 <= numbers["utilisation"] <= 1
        assert 0 <= numbers["memory_used"] <= numbers["memory_total"] and numbers["memory_total"] > 1 << 30
        assert 1 < numbers.get("power", 50) < 3000 and 5 < numbers.get("temperature", 50) < 120


def test_the_driver_is_listened_to_and_a_healthy_gpu_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    driver = Nvidia()
    assert driver.befallen() == {}
    begun = time.monotonic()
    assert [driver.befallen() for _ in range(100)] == [{}] * 100
    with capsys.disabled():
        print(f"\nlistening for events: {(time.monotonic() - begun) * 10:.3f} ms a look")
    driver.close()
    assert driver.befallen() == {}


def test_a_gpu_that_somebody_else_uses_is_offered_when_they_are_gone(tmp_path: Path) -> None:
    pool = open_pool(Devices(kind="gpu"), 1, PLAIN, tmp_path)
    slot = pool.slots[0]
    lease = pool.acquire(slot, {})
    if lease is None:
        pytest.skip(f"GPU 0 is not free: {pool.trouble}")
    os.close(lease)
    other = subprocess.Popen(
        [sys.executable, "-c", CUDA, "compute"],
        env={**PLAIN, **slot.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout and json.loads(other.stdout.readline()) == [slot.device]
        assert other.stdout.readline() == "computes\n"
        time.sleep(0.5)
        assert pool.acquire(slot, {}) is None and "held_back" in (tmp_path / slot.id).read_text()
    finally:
        other.kill()
        other.communicate()
    deadline = time.monotonic() + 10
    while (lease := pool.acquire(slot, {})) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert lease is not None and pool.trouble == {}
