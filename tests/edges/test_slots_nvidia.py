"""GPUs through the real pynvml and a fake driver (fake_nvml/), in processes of their own: the loader reads
LD_LIBRARY_PATH only when a process starts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from gpu_kit import GPU_A, GPU_B, A, B, C

from sweep.slots.choice import visible
from sweep.slots.provider import Device


def test_every_gpu_is_found_and_pinned_by_uuid(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B)
    here = remote(shares=2)
    slots = here("p.slots")
    assert [slot["id"] for slot in slots] == [f"gpu-{x * 8}-0.{share}" for share in (0, 1) for x in "ab"]
    assert [slot["env"]["CUDA_VISIBLE_DEVICES"] for slot in slots] == [GPU_A, GPU_B, GPU_A, GPU_B]
    assert {(slot["kind"], slot["name"], slot["memory"]) for slot in slots} == {("gpu", "Fake H100", 80000 << 20)}
    assert [slot["index"] for slot in slots] == [0, 1, 0, 1], "no trial shares while a GPU is idle"
    threads = max(1, here("pool.cpu.cores()") // 4)
    assert {slot["threads"] for slot in slots} == {threads} == {int(slots[0]["env"]["OMP_NUM_THREADS"])}
    assert here("p.said").startswith("2 GPUs (Fake H100), 2 slots each")


def test_a_slot_of_a_whole_gpu_has_the_gpus_name(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A)
    assert [slot["id"] for slot in remote()("p.slots")] == ["gpu-aaaaaaaa-0"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(9, "driver not loaded"), (4, "no permission"), (18, "different versions"), (999, "Unknown")],
)
def test_without_a_driver_auto_takes_the_cpu_and_gpu_says_why(
    error: int, words: str, fake_nvml: Any, remote: Any
) -> None:
    fake_nvml.write(f"init error={error}", A)
    here = remote()
    assert here("[s.kind for s in p.slots]") == ["cpu"] * min(here("pool.cpu.cores()"), 4)
    assert here("p.said").startswith("No GPU found (NVML: ") and words in here("p.said")
    assert "CUDA_VISIBLE_DEVICES" not in here("p.slots")[0]["env"], "NVML may be missing where CUDA is not"
    for asked in ("kind='gpu'", "kind='gpu', ids=['0']"):
        with pytest.raises(
            RuntimeError, match=f"DeviceError: no GPU found .NVML: .*{words}(.|\n)*devices: cpu|reboot|rights"
        ):
            here(f"open_pool(Devices({asked}), 1, environ, locks)")


def test_a_library_that_is_not_there(fake_nvml: Any, remote: Any, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").mkdir()  # found before a real one, and not to be loaded
    path = f"{tmp_path}:{fake_nvml.env['LD_LIBRARY_PATH']}"
    fake_nvml.write(A)
    assert "no driver library" in remote(own=True, env={"LD_LIBRARY_PATH": path})("p.said")


def test_a_driver_without_gpus(fake_nvml: Any, remote: Any) -> None:
    assert "the driver runs but finds none" in remote()("p.said")


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("0,2", [0, 2]),
        ("3, 1", [3, 1]),
        ("", []),
        ("-1", []),
        ("1,-1,2", [1]),
        ("0,7,1", [0]),
        ("2,2", []),
        ("1gpu,2ampere", [1, 2]),
        ("+1,-0", [1, 0]),
        ("none", []),
        ("GPU-ab1", [1]),
        ("GPU-cd,GPU-ab0", [2, 0]),
        ("GPU-cd,GPU-nowhere,GPU-ab0", [2]),
        ("GPU-ab", []),
        ("GPU-ab0,GPU-ab0", []),
        ("GPU-ab0,1", [0]),
        ("1,GPU-ab0", [1]),
        ("MIG-1234", []),
        ("MIG-5555", [4]),
        ("MIG-5555-0,GPU-cd", [4, 2]),
        ("0,MIG-5555-0", [0]),
    ],
)
def test_cuda_visible_devices_as_cuda_reads_it(value: str | None, numbers: list[int]) -> None:
    uuids = ("GPU-ab0", "GPU-ab1", "GPU-cd2", "GPU-ef3", "MIG-5555-0")
    devices = [Device(uuid, uuid, "gpu", number, "") for number, uuid in enumerate(uuids)]
    shown = visible(devices, {} if value is None else {"CUDA_VISIBLE_DEVICES": value}, "CUDA_VISIBLE_DEVICES")
    assert [device.index for device in shown] == numbers


def test_hidden_gpus_are_not_offered(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B, C)
    here = remote(CUDA_VISIBLE_DEVICES="2,0")
    assert here("[s.index for s in p.slots]") == [2, 0]
    assert here("p.said").startswith("GPUs 2, 0 of 3 (Fake H100)")
    assert "CUDA_DEVICE_ORDER" not in here("p.said"), "GPUs alike: both number them by their place on the bus"
    with pytest.raises(
        RuntimeError, match=r"GPU 1 is hidden by CUDA_VISIBLE_DEVICES; there are 2 .*GPU-cccc.*, 0 "
    ):
        here("open_pool(Devices(kind='gpu', ids=['1']), 1, environ, locks)")


def test_all_hidden_is_no_gpu(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B)
    here = remote(CUDA_VISIBLE_DEVICES="-1")
    assert here("p.slots")[0]["kind"] == "cpu" and 'CUDA_VISIBLE_DEVICES="-1"' in here("p.said")
    with pytest.raises(RuntimeError, match="shows none of 2"):
        here("open_pool(Devices(kind='gpu'), 1, environ, locks)")


def test_numbers_that_cuda_may_read_otherwise_are_said(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B.replace("H100", "T4"))
    assert "CUDA_DEVICE_ORDER" in remote(CUDA_VISIBLE_DEVICES="0")("p.said")
    assert "CUDA_DEVICE_ORDER" not in remote(CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID")("p.said")
    assert "CUDA_DEVICE_ORDER" not in remote(CUDA_VISIBLE_DEVICES="GPU-a")("p.said")


def test_gpus_by_number_and_uuid(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B, C)
    here = remote("kind='gpu', ids=['2', 'GPU-aaaa', 'GPU-cccccccc-0']")
    assert here("[s.index for s in p.slots]") == [2, 0]
    for wrong in ("3", "GPU-dddd"):
        with pytest.raises(
            RuntimeError, match=rf"DeviceError: GPU {wrong} is not there; there are 0 .*{GPU_A}.*, 1 "
        ):
            here(f"open_pool(Devices(kind='gpu', ids=['{wrong}']), 1, environ, locks)")


def test_a_count_takes_what_this_sweep_holds_and_then_what_is_free(
    fake_nvml: Any, remote: Any, sleeper: subprocess.Popen[bytes]
) -> None:
    fake_nvml.write(A, B, C, f"proc gpu=0 pid={sleeper.pid}")
    busy = remote(own=True)
    busy.run("lease = p.acquire(p.slots[1], {'sweep': 'old-1'})")
    count = "kind='gpu', count={}".format
    here = remote(count(1))
    assert here("[s.index for s in p.slots]") == [2]
    assert here("p.said").startswith("GPU 2 of 3 (Fake H100)")
    assert remote(count(2), sweep="old-1")("[s.index for s in p.slots]") == [1, 2]
    assert remote(count(3))("[s.index for s in p.slots]") == [0, 1, 2]
    with pytest.raises(RuntimeError, match="4 GPUs wanted, but there are 0 "):
        here(f"open_pool(Devices({count(4)}), 1, environ, locks)")


def test_measure(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(f"{A} used=1000 util=93 watt=250 temp=61", f"{B} watt=-1")
    assert remote()("p.measure()") == {
        GPU_A: {
            "memory_used": 1000 << 20,
            "memory_total": 80000 << 20,
            "utilisation": 0.93,
            "power": 250.0,
            "temperature": 61.0,
        },
        GPU_B: {"memory_used": 4 << 20, "memory_total": 80000 << 20, "utilisation": 0.0, "temperature": 30.0},
    }


def test_a_gpu_on_which_somebody_else_computes_is_left_alone(
    fake_nvml: Any, remote: Any, sleeper: subprocess.Popen[bytes]
) -> None:
    fake_nvml.write(A, B, f"proc gpu=0 pid={sleeper.pid}")
    here = remote()
    here.run("pool.FRESH = pool.REFUSED = 0")
    assert here(f"foreign('{GPU_A}')") == [sleeper.pid]
    assert here("p.acquire(p.slots[0], {})") is None and here("p.holder(p.slots[0])") is None
    assert f"process {sleeper.pid} of " in here("p.trouble")[GPU_A]
    assert here("p.acquire(p.slots[1], {})") is not None
    here.run("import subprocess; child = subprocess.Popen(['sleep', '600'])")
    fake_nvml.write(A, f"proc gpu=0 pid={here('child.pid')}", B)
    assert here("p.acquire(p.slots[0], {})") is None, "to descend from the controller is not to have a lease"
    here.run("child.kill(); child.wait()")
    fake_nvml.write(A, f"proc gpu=0 pid={sleeper.pid}", B)
    assert here("p.acquire(p.slots[0], {})") is None
    sleeper.kill()
    sleeper.wait()  # NVML may show a process for a while after its end
    assert here("p.acquire(p.slots[0], {})") is not None and here("p.trouble") == {}


def test_trials_on_another_share_are_not_strangers_even_when_their_controller_is_dead(
    fake_nvml: Any, remote: Any
) -> None:
    fake_nvml.write(A)
    controller = remote(shares=2, own=True)
    controller.run("import subprocess; lease = p.acquire(p.slots[0], {'sweep': 'x-1'})")
    # The supervisor has the descriptor; its child, which computes, has not.
    controller.run(
        "s = subprocess.Popen(['sh', '-c', f'sleep 600 {lease}<&- & echo $!; wait'],"
        " pass_fds=[lease], stdout=subprocess.PIPE, start_new_session=True)"
    )
    supervisor, trial = controller("s.pid"), controller("int(s.stdout.readline())")
    try:
        fake_nvml.write(A, f"proc gpu=0 pid={trial}")
        controller.end()
        here = remote(shares=2)
        here.run("pool.FRESH = pool.REFUSED = 0")
        assert here(f"foreign('{GPU_A}')") == []
        assert here("p.acquire(p.slots[0], {})") is None, "the supervisor holds it"
        assert here("p.acquire(p.slots[1], {})") is not None
        os.kill(supervisor, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while here("p.holder(p.slots[0])") is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert here(f"foreign('{GPU_A}')") == [trial], "it computes on, and nobody's lease covers it"
        assert here("p.acquire(p.slots[0], {})") is None
    finally:
        os.killpg(supervisor, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to look like a container")
def test_in_a_container_memory_in_use_stands_for_the_pids_that_nvml_has_wrong(
    fake_nvml: Any, remote: Any, sleeper: subprocess.Popen[bytes]
) -> None:
    fake_nvml.write(f"{A} used=600", f"{B} used=5", "proc gpu=1 pid=1")
    here = remote(shares=2, own=True, prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))
    here.run("pool.FRESH = pool.REFUSED = 0")
    first, second, third = (f"p.acquire(p.slots[{k}], {{}})" for k in (0, 2, 1))
    assert here(third) is not None, "pid 1 is the host's, whatever has that number here"
    assert here(first) is None and here("p.trouble") == {GPU_A: "600 MiB of its memory are in use"}
    fake_nvml.write(f"{A} used=5", B)
    assert here(first) is not None
    fake_nvml.write(f"{A} used=600", B)
    assert here(second) is not None, "it may well be the trial on the other share"


def test_a_gpu_that_is_lost_is_not_offered_until_it_is_back(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B)
    here = remote()
    here.run("pool.FRESH = pool.RETRY = 0")
    fake_nvml.write(f"{A} error=15", B)
    assert here("p.acquire(p.slots[0], {})") is None
    assert list(here("p.measure()")) == [GPU_B]
    assert list(here("p.trouble")) == [GPU_A] and "lost" in here("p.trouble")[GPU_A]
    fake_nvml.write(f"{B} used=2", f"{A} used=1")
    assert here("p.measure()")[GPU_A]["memory_used"] == 1 << 20, "its old handle may mean another GPU by now"
    assert here("p.trouble") == {}
    assert here("p.acquire(p.slots[0], {})") is not None


def test_a_gpu_that_is_lost_from_the_start_is_said(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, f"{B} error=15", C)
    here = remote()
    assert here("[s.index for s in p.slots]") == [0, 2]
    assert "GPU 1 is left out: the GPU is lost" in here("p.said")


def test_a_driver_that_goes_and_comes_back(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A, B)
    here = remote()
    here.run("pool.FRESH = pool.RETRY = 0")
    fake_nvml.write("init error=9")
    assert here("p.measure()") == {} and here("p.acquire(p.slots[0], {})") is None
    assert here("p.trouble") == dict.fromkeys((GPU_A, GPU_B), "driver not loaded")
    fake_nvml.write(f"{B} used=2", f"{A} used=1")
    measured = here("p.measure()")
    assert [int(measured[gpu]["memory_used"]) >> 20 for gpu in (GPU_A, GPU_B)] == [1, 2] and here(
        "p.trouble"
    ) == {}


def test_a_decision_over_many_slots_reads_each_device_once(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(*(f"gpu uuid=GPU-{number}" for number in range(64)))
    here = remote(shares=4, own=True)
    here.run(
        "pool.FRESH, read, asked = 3600, p._provider.measure, []\n"
        "p._provider.measure = lambda device: asked.append(device.id) or read(device)"
    )
    assert here("sum(p.acquire(slot, {}) is not None for slot in p.slots)") == 256
    assert here("len(p.measure())") == 64
    assert here("len(asked), len(set(asked))") == [64, 64]


def test_a_refusal_is_not_looked_into_at_every_try_but_a_first_one_rests_on_the_present(
    fake_nvml: Any, remote: Any, sleeper: subprocess.Popen[bytes]
) -> None:
    fake_nvml.write(A, f"proc gpu=0 pid={sleeper.pid}")
    here = remote()
    here.run("pool.FRESH = pool.REFUSED = 3600")
    used = here("p.measure()")
    fake_nvml.write(f"{A} used=5")
    assert here("p.measure()") == used, "the last reading is believed"
    here.run("lease = p.acquire(p.slots[0], {})")
    assert here("lease") is not None, "but not for a refusal"
    here.run("os.close(lease)")
    fake_nvml.write(A, f"proc gpu=0 pid={sleeper.pid}")
    here.run("pool.FRESH = 0")
    assert here("p.acquire(p.slots[0], {})") is None
    fake_nvml.write(A)
    here.run("look, pool.strangers = pool.strangers, None")
    assert here("p.acquire(p.slots[0], {})") is None, "without another look"
    here.run("pool.REFUSED, pool.strangers = 0, look")
    assert here("p.acquire(p.slots[0], {})") is not None


def test_a_driver_in_trouble_is_not_asked_again_at_once(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(A)
    here = remote()
    here.run("pool.FRESH, pool.RETRY = 0, 3600")
    fake_nvml.write("init error=9")
    assert here("p.measure()") == {}
    fake_nvml.write(A)
    assert here("p.acquire(p.slots[0], {})") is None
    here.run("pool.RETRY = 0")
    assert here("p.acquire(p.slots[0], {})") is not None


MIG = (
    f"{A} mig=1",
    f"{B} mig=0",
    f"{C} mig=1",
    "mig gpu=0 uuid=MIG-11111111-0 name=Fake_H100_MIG_1g.10gb total=9000",
    "mig gpu=0 uuid=MIG-22222222-0 name=Fake_H100_MIG_2g.20gb total=19000",
)


def test_the_instances_of_a_gpu_are_devices_of_their_own(
    fake_nvml: Any, remote: Any, sleeper: subprocess.Popen[bytes]
) -> None:
    fake_nvml.write(*MIG, f"proc mig=1 pid={sleeper.pid}")
    here = remote()
    assert here("[(s.id, s.device, s.index, s.memory >> 20) for s in p.slots]") == [
        ["gpu-MIG-11111111-0", "MIG-11111111-0", 0, 9000],
        ["gpu-MIG-22222222-0", "MIG-22222222-0", 0, 19000],
        ["gpu-bbbbbbbb-0", GPU_B, 1, 80000],
    ]
    assert here("p.slots[0].env['CUDA_VISIBLE_DEVICES']") == "MIG-11111111-0"
    assert "GPU 2 is left out: its MIG is on, and it has no instance" in here("p.said")
    assert here("[p.acquire(slot, {}) is not None for slot in p.slots]") == [True, False, True]
    assert sorted(here("p.measure()")["MIG-11111111-0"]) == ["memory_total", "memory_used"]
    assert "utilisation" in here("p.measure()")[GPU_B]
    assert [one["health"][0] for one in here("Survey(environ, locks).look()")] == ["ok", "foreign", "ok"]


def test_instances_are_chosen_by_uuid_or_all_of_a_gpu_by_its_number(fake_nvml: Any, remote: Any) -> None:
    fake_nvml.write(*MIG)
    devices = "[s.device for s in p.slots]"
    assert remote("kind='gpu', ids=['0']")(devices) == ["MIG-11111111-0", "MIG-22222222-0"]
    assert remote("kind='gpu', ids=['MIG-2222']")(devices) == ["MIG-22222222-0"]
    assert remote(CUDA_VISIBLE_DEVICES="MIG-22222222-0,GPU-bbbb")(devices) == ["MIG-22222222-0", GPU_B]
    assert remote(CUDA_VISIBLE_DEVICES=GPU_A)("p.slots[0].kind") == "cpu", "as a whole it is not there"
