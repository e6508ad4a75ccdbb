"""NPUs and XPUs: the real providers, and programs on PATH that print what the vendors' tools print."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from smi_kit import MAP_910B, MAP_910C, NPU_310B, NPU_910B, NPU_910C, PID, XPU_INTEL, XPU_P800, Tools

from sweep.config.model import Devices
from sweep.errors import DeviceError
from sweep.slots import ascend, foreign, smi, vendors
from sweep.slots.ascend import Ascend
from sweep.slots.bundle import together
from sweep.slots.choice import visible
from sweep.slots.kunlun import Kunlun
from sweep.slots.opening import open_pool
from sweep.slots.pool import Pool
from sweep.slots.provider import Device
from sweep.slots.survey import Survey

GIB = 1 << 30


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """No vendor's tool is on PATH but those that the test makes, no NVIDIA driver is found, pids are true."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(smi, "AGE", 0.0)
    monkeypatch.setattr(smi, "REST", 0.0)
    monkeypatch.setattr(smi, "pids_mean", lambda: "true")
    return Tools(tmp_path / "bin")


@pytest.fixture
def npus(tools: Tools, sleeper: subprocess.Popen[bytes]) -> Tools:
    tools("npu-smi", "info", "-m", says=MAP_910B)
    tools("npu-smi", "info", says=NPU_910B.replace(PID, str(sleeper.pid)))
    return tools


@pytest.fixture
def xpus(tools: Tools, sleeper: subprocess.Popen[bytes]) -> Tools:
    tools("xpu-smi", says=XPU_P800.replace(PID, str(sleeper.pid)))
    return tools


def opened(tmp_path: Path, wanted: Any, **environ: str) -> Pool:
    return open_pool(Devices.model_validate(wanted), 1, environ, tmp_path / "locks")


def test_npus_are_found_read_and_pinned_by_their_logic_id(npus: Tools, sleeper: subprocess.Popen[bytes]) -> None:
    provider = Ascend()
    assert provider.devices() == [
        Device("NPU-0000-C1-00-0", "npu-0000-C1-00-0", "npu", 0, "Ascend 910B3", 64 * GIB),
        Device("NPU-0000-02-00-0", "npu-0000-02-00-0", "npu", 1, "Ascend 910B3", 64 * GIB),
    ]
    idle, busy = map(provider.measure, provider.devices())
    assert idle.numbers == {
        "memory_used": 3445 << 20,
        "memory_total": 65536 << 20,
        "utilisation": 0.0,
        "power": 102.8,
        "temperature": 45.0,
    }
    assert (idle.pids, busy.pids, busy.numbers["utilisation"]) == ((), (sleeper.pid,), 0.12)
    assert provider.pin(provider.devices()[1]) == {"ASCEND_RT_VISIBLE_DEVICES": "1"}, "card 5 is device 1"
    assert provider.left_out == []


def test_both_chips_of_a_910c_are_devices(tools: Tools) -> None:
    tools("npu-smi", "info", "-m", says=MAP_910C)
    tools("npu-smi", "info", says=NPU_910C)
    provider = Ascend()
    assert [(one.id, one.index) for one in provider.devices()] == [
        ("NPU-0000-95-00-0", 0),
        ("NPU-0000-97-00-0", 1),
    ]
    first, second = map(provider.measure, provider.devices())
    assert first.pids == () and second.pids == (3328327,)
    assert "power" in first.numbers and "power" not in second.numbers, "`-` is no number"


def test_a_310_has_one_memory_and_perhaps_no_bus(tools: Tools) -> None:
    tools("npu-smi", "info", "-m", says=MAP_910B.replace("\t5", "\t1").replace("910B3", "310B1"))
    tools("npu-smi", "info", says=NPU_310B)
    first, second = Ascend().devices()
    assert (first.id, second.id) == ("NPU-0000-11-00-0", "NPU-1-0")
    assert Ascend().measure(second).numbers["memory_used"] == 957 << 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HBM-Usage(MB)", "HBM(GB)"),
        ("| Chip     ", "| Die     "),
        ("3445 / 65536", "3445 MB of 65536"),
        ("| NPU   Name ", "| NPU   Model "),
        ("| 5       0                 |", "| 7       0                 |"),
        ("| 0000:02:00.0  |", "| 0000:02  |"),
        (NPU_910B, "dcmi model initialized failed, because the device is used. ret is -8020\n"),
        (NPU_910B, ""),
    ],
)
def test_a_table_of_another_version_is_refused_whole_with_the_line(old: str, new: str, npus: Tools) -> None:
    assert old in NPU_910B
    npus("npu-smi", "info", says=NPU_910B.replace(old, new))
    with pytest.raises(DeviceError, match=r"no NPU found .this version of `npu-smi info` is not known: it says `"):
        Ascend()


def test_a_mapping_of_another_version_is_refused(npus: Tools) -> None:
    for text in ("", "ID  Name\n", MAP_910B.replace("Chip Logic ID", "Chip Phy ID"), MAP_910B + "\t9  0  x  y\n"):
        npus("npu-smi", "info", "-m", says=text)
        with pytest.raises(DeviceError, match="`npu-smi info -m` is not known"):
            Ascend()


def test_a_chip_that_only_one_list_has_is_left_out_in_words(npus: Tools) -> None:
    npus("npu-smi", "info", "-m", says=MAP_910B.replace("\t5 ", "\t6 "))
    provider = Ascend()
    assert [one.index for one in provider.devices()] == [0]
    assert [words[:20] for words in provider.left_out] == ["NPU 5, chip 0 is lef", "NPU 6, chip 0 is lef"]


def test_a_tool_that_fails_later_is_trouble_and_no_exception(npus: Tools) -> None:
    provider = Ascend()
    first, second = provider.devices()
    npus(
        "npu-smi",
        "info",
        says=NPU_910B.replace("| 0     910B3               | OK    ", "| 0     910B3 | Critical"),
    )
    assert provider.measure(first).fault == "npu-smi says that its health is Critical"
    npus("npu-smi", "info", fails="the driver is gone")
    assert provider.measure(second).trouble == "`npu-smi info` failed with 7: the driver is gone"
    npus("npu-smi", "info", says=NPU_910B.split("| 5     910B3")[0])
    assert provider.measure(second).trouble == "it is not listed any more" and provider.measure(second).gone
    assert not provider.measure(first).trouble


def test_a_tool_that_does_not_answer_is_given_up(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smi, "LIMIT", 0.2)
    (tools.folder / "npu-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    (tools.folder / "npu-smi").chmod(0o755)
    with pytest.raises(DeviceError, match="has not answered"):
        Ascend()


def test_one_call_tells_of_every_device(npus: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Ascend()
    monkeypatch.setattr(smi, "AGE", 60.0)
    before = [provider.measure(device) for device in provider.devices()]
    npus("npu-smi", "info", fails="no second call is due")
    assert [provider.measure(device) for device in provider.devices()] == before


def test_the_tool_is_asked_of_all_devices_whatever_is_hidden_here(npus: Tools, monkeypatch: Any) -> None:
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    script = npus.folder / "npu-smi"
    script.write_text(
        script.read_text().replace("#!/bin/sh", '#!/bin/sh\n[ -z "$ASCEND_RT_VISIBLE_DEVICES" ] || exit 9')
    )
    assert len(Ascend().devices()) == 2


def test_xpus_are_found_read_and_pinned(xpus: Tools, sleeper: subprocess.Popen[bytes]) -> None:
    provider = Kunlun()
    assert provider.devices()[1] == Device(
        "XPU-0000-ab-00-0", "xpu-0000-ab-00-0", "xpu", 1, "Kunlun P800 OAM", 96 * GIB
    )
    idle, busy = map(provider.measure, provider.devices())
    assert idle.numbers == {
        "memory_used": 100 << 20,
        "memory_total": 98304 << 20,
        "utilisation": 0.0,
        "power": 98.0,
        "temperature": 43.0,
    }
    assert (idle.pids, busy.pids, busy.numbers["utilisation"]) == ((), (sleeper.pid,), 0.4)
    assert provider.pin(provider.devices()[1]) == {"XPU_VISIBLE_DEVICES": "1"}


def test_the_other_name_of_the_tool_will_do(tools: Tools) -> None:
    tools("xpu_smi", says=XPU_P800)
    assert len(Kunlun().devices()) == 2


@pytest.mark.parametrize(
    "text",
    [
        XPU_INTEL,
        "",
        XPU_P800.replace("L3-Usage", "L4-Usage"),
        XPU_P800.replace("100MiB / 98304MiB", "0.1GiB / 96GiB"),
        XPU_P800.replace(
            "|                               |      0MiB /    96MiB |             Disabled |\n", "", 1
        ),
        XPU_P800.replace("|    1   N/A  N/A", "|    9   N/A  N/A"),
        XPU_P800.replace("GI   CI ", "     CI "),
    ],
)
def test_another_xpu_smi_is_refused_with_the_line(text: str, tools: Tools) -> None:
    tools("xpu-smi", says=text)
    with pytest.raises(DeviceError, match=r"no XPU found .this version of `xpu-smi` is not known: it says `"):
        Kunlun()


@pytest.mark.parametrize(
    ("listed", "shown"),
    [(None, [0, 1, 2]), ("1", [1]), ("0,2", [0, 2]), ("0, 2", [0]), ("", []), ("0,9,2", [0]), ("1;2", [1])],
)
def test_ascend_reads_as_far_as_there_are_digits_and_commas(listed: str | None, shown: list[int]) -> None:
    here = [Device(f"NPU-{number}", "", "npu", number, "") for number in range(3)]
    environ = {} if listed is None else {ascend.VISIBLE: listed}
    assert [device.index for device in visible(here, environ, ascend.VISIBLE)] == shown


def test_auto_takes_npus_where_there_are_no_gpus(npus: Tools, tmp_path: Path) -> None:
    pool = opened(tmp_path, "auto")
    assert {slot.kind for slot in pool.slots} == {"npu"} and pool.said.startswith("2 NPUs (Ascend 910B3), 1 slot")
    assert [slot.env["ASCEND_RT_VISIBLE_DEVICES"] for slot in pool.slots] == ["0", "1"]


def test_npus_and_xpus_are_asked_for_by_name_number_and_id(npus: Tools, xpus: Tools, tmp_path: Path) -> None:
    assert [slot.index for slot in opened(tmp_path, "npu:1").slots] == [0], "the other one is in use"
    assert [slot.index for slot in opened(tmp_path, {"kind": "npu", "ids": [1, 0]}).slots] == [1, 0]
    assert [slot.index for slot in opened(tmp_path, ["NPU-0000-02"]).slots] == [1]
    assert [slot.kind for slot in opened(tmp_path, "xpu").slots] == ["xpu", "xpu"]
    assert [slot.index for slot in opened(tmp_path, "npu", ASCEND_RT_VISIBLE_DEVICES="1").slots] == [1]
    with pytest.raises(DeviceError, match=r"3 NPUs wanted, but there are 0 .Ascend 910B3, NPU-0000-C1-00-0"):
        opened(tmp_path, "npu:3")
    with pytest.raises(DeviceError, match=r"XPU 7 is not there(.|\n)*xpu-smi shows them.*kind: xpu, ids"):
        opened(tmp_path, {"kind": "xpu", "ids": [7]})
    with pytest.raises(DeviceError, match='ASCEND_RT_VISIBLE_DEVICES="" shows none of 2'):
        opened(tmp_path, "npu", ASCEND_RT_VISIBLE_DEVICES="")
    with pytest.raises(DeviceError, match="no GPU found"):
        opened(tmp_path, [0])


def test_several_npus_of_one_process_are_given_in_ascending_order(npus: Tools, tmp_path: Path) -> None:
    pool = opened(tmp_path, {"kind": "npu", "ids": [1, 0]})
    assert together(pool.slots).env["ASCEND_RT_VISIBLE_DEVICES"] == "0,1"


def test_a_tool_that_is_there_and_of_no_use_is_said_and_the_cpu_taken(tools: Tools, tmp_path: Path) -> None:
    tools("npu-smi", "info", "-m", fails="dcmi module initialize failed. ret is -8005")
    pool = opened(tmp_path, "auto")
    assert {slot.kind for slot in pool.slots} == {"cpu"}
    assert "no NPU found (`npu-smi info -m` failed with 7: dcmi module initialize failed" in pool.said
    survey = Survey({}, tmp_path / "locks")
    assert [words for words in survey.left_out if "NPU" in words and "dcmi" in words]
    with pytest.raises(DeviceError, match=r"no XPU found .xpu-smi is not on PATH"):
        opened(tmp_path, "xpu")


def test_who_computes_without_a_lease_holds_an_npu_back(
    npus: Tools, tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    pool = opened(tmp_path, "npu")
    first, second = pool.slots
    lease = pool.acquire(first, {"sweep": "a-1"})
    assert lease is not None and pool.acquire(second, {}) is None
    assert f"process {sleeper.pid}" in pool.trouble[second.device]
    looked = {one.device.id: one for one in Survey({}, tmp_path / "locks").look()}
    assert looked[second.device].health.word == "foreign"
    assert (looked[first.device].places[0].holder or {})["sweep"] == "a-1"
    os.close(lease)


def test_who_chose_the_cpu_gets_no_other_device(tmp_path: Path) -> None:
    env = opened(tmp_path, "cpu:1").slots[0].env
    assert {env[vendor.variable] for vendor in vendors.VENDORS.values()} == {""}


def test_in_a_container_pids_are_not_believed(npus: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smi, "pids_mean", lambda: "hidden")
    provider = Ascend()
    assert provider.measure(provider.devices()[1]).pids == (), "an idle 910B has memory in use: see ascend.py"
    assert foreign.pids_mean() in ("true", "hidden", "nothing")
