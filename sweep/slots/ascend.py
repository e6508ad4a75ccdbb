"""Huawei's Ascend NPUs through `npu-smi`.

A card (NPU ID) has one chip or two, and each chip is a device of its own. `npu-smi info -m` numbers them through:
the Chip Logic ID, `-` for what computes nothing (Mcu). That number is what ASCEND_RT_VISIBLE_DEVICES takes, in
ascending order, with commas and nothing else between. Sources: CANN commercial 8.0 to 9.0, environment variables,
ASCEND_RT_VISIBLE_DEVICES (hiascend.com, envref_07_0028); vllm-ascend, cpu_binding.py and its tests, for the table
of -m. A number may change with the next boot or container; the PCI address does not, so it is the device's id.

`npu-smi info` has two lines for a chip, of its card and of its own, then one for each process. There are three
headings of a chip: with HBM (910B; the 910C adds Phy-ID), and without (310: `Device`, one memory). Sources:
bug reports of vllm-ascend, npu-smi 24.1 to 26.0; hiascend.com, npu-smi info of the Atlas 200I A2, 23.0 to 25.5.
An idle 910B has 5 to 9 % of its memory in use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweep.slots.provider import Device, Reading
from sweep.slots.smi import Listed, Misfit, ask, number, rows

TOOL = "npu-smi"
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"

_MAPPING = ("NPU ID", "Chip ID", "Chip Logic ID")
_CARD = ["NPU Name", "Health", "Power(W) Temp(C) Hugepages-Usage(page)"]
_CHIP = ("Chip", "Chip Phy-ID", "Chip Device")
_MEMORY = ("AICore(%) Memory-Usage(MB) HBM-Usage(MB)", "AICore(%) Memory-Usage(MB)")
_BUS = re.compile(r"[\dA-F]{4,8}:[\dA-F]{2}:[\dA-F]{2}\.[\dA-F]|N/?A", re.IGNORECASE)
_NONE = re.compile(r"No running processes found in NPU \d+")
# A chip that is one of these fails what it is given. Alarm and Warning are also shown for a fan, and by every 310.
_ILL = ("Critical", "UNKNOWN")

Place = tuple[int, int]  # of a chip: NPU ID, Chip ID


@dataclass
class _Chip:
    name: str
    health: str
    bus: str
    numbers: dict[str, float]
    pids: list[int] = field(default_factory=list)


class Ascend(Listed):
    """The chips of a card have numbers in a row. left_out: those that only one list of the tool has."""

    noun = "NPU"
    variable = VISIBLE

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        super().__init__(f"{TOOL} info")

    def _list(self) -> list[Device]:
        logic = ask(mapping, TOOL, "info", "-m")
        chips = ask(table, TOOL, "info")
        for card, chip in sorted(logic.keys() ^ chips.keys()):
            self.left_out.append(f"NPU {card}, chip {chip} is left out: `{TOOL} info` and `info -m` do not agree")
        both = sorted(logic.keys() & chips.keys(), key=lambda place: logic[place])
        return [self._device(place, chips[place], logic[place]) for place in both]

    def _device(self, place: Place, chip: _Chip, logic: int) -> Device:
        # An Atlas that is a computer of its own has no bus.
        where = f"{place[0]}-{place[1]}" if chip.bus.startswith("N") else re.sub(r"\W", "-", chip.bus)
        self._places[f"NPU-{where}"] = place
        memory = int(chip.numbers["memory_total"])
        return Device(f"NPU-{where}", f"npu-{where}", "npu", logic, f"Ascend {chip.name}", memory)

    def _readings(self) -> Mapping[str, Reading]:
        chips = ask(table, TOOL, "info")
        found = {device: chips[place] for device, place in self._places.items() if place in chips}
        return {device: self._reading(chip) for device, chip in found.items()}

    def _reading(self, chip: _Chip) -> Reading:
        if chip.health in _ILL:
            return Reading(chip.numbers, fault=f"{TOOL} says that its health is {chip.health}")
        return Reading(chip.numbers, tuple(chip.pids) if self._pids_mean else ())


def mapping(text: str) -> dict[Place, int]:
    """The logic id of every chip that computes, out of `npu-smi info -m`. Raises Misfit."""
    lines = [re.split(r"\s{2,}|\t", line.strip()) for line in text.splitlines() if line.strip()]
    if not lines or tuple(lines[0][:3]) != _MAPPING or lines[0][-1] != "Chip Name":
        raise Misfit("  ".join(lines[0]) if lines else "nothing")
    found: dict[Place, int] = {}
    for line in lines[1:]:
        if len(line) != len(lines[0]) or not (line[0].isdecimal() and line[1].isdecimal()):
            raise Misfit("  ".join(line))
        if line[2].isdecimal():
            found[int(line[0]), int(line[1])] = int(line[2])
        elif line[2] != "-":
            raise Misfit("  ".join(line))
    return found


def table(text: str) -> dict[Place, _Chip]:
    """Every chip with its processes, out of `npu-smi info`. Raises Misfit."""
    lines = list(rows(text))
    headings = [place for place, cells in enumerate(lines) if cells == _CARD]
    if len(headings) != 1 or headings[0] + 1 >= len(lines):
        raise Misfit(" | ".join(lines[0]) if lines else text.strip()[:80] or "nothing")
    head = lines[headings[0] + 1]
    if len(head) != 3 or head[0] not in _CHIP or head[1] != "Bus-Id" or head[2] not in _MEMORY:
        raise Misfit(" | ".join(head))
    found: dict[Place, _Chip] = {}
    card: list[str] = []
    processes = False
    for cells in lines[headings[0] + 2 :]:
        if cells[:2] == ["NPU Chip", "Process id"]:
            processes = True
        elif processes:
            _add_process(found, cells)
        elif len(cells) == 3 and _BUS.fullmatch(cells[1]):
            _add_chip(found, card, cells)
        else:
            card = cells
    return found


def _add_chip(found: dict[Place, _Chip], card: list[str], cells: list[str]) -> None:
    whole = re.fullmatch(r"(\d+) (\S+)", card[0]) if len(card) == 3 else None
    heat = re.fullmatch(r"(\S+) (\S+) \S+ ?/ ?\S+", card[2]) if whole else None
    chip = re.fullmatch(r"(\d+)(?: \d+)?", cells[0])
    use = re.fullmatch(r"(\S+) (?:\d+ ?/ ?\d+ )?(\d+) ?/ ?(\d+)", cells[2])
    if not (whole and heat and chip and use):
        raise Misfit(" | ".join(cells))
    numbers = {"memory_used": float(int(use[2]) << 20), "memory_total": float(int(use[3]) << 20)}
    for name, word, scale in (("utilisation", use[1], 100), ("power", heat[1], 1), ("temperature", heat[2], 1)):
        if (value := number(word)) is not None:
            numbers[name] = value / scale
    found[int(whole[1]), int(chip[1])] = _Chip(whole[2], card[1], cells[1], numbers)


def _add_process(found: dict[Place, _Chip], cells: list[str]) -> None:
    if _NONE.fullmatch(cells[0]):
        return
    place = re.fullmatch(r"(\d+) (\d+)", cells[0])
    if not place or len(cells) < 4 or not cells[1].isdecimal():
        raise Misfit(" | ".join(cells))
    chip = found.get((int(place[1]), int(place[2])))
    if chip is None:
        raise Misfit(" | ".join(cells))
    chip.pids.append(int(cells[1]))
