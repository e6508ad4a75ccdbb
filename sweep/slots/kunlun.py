"""Baidu's Kunlun XPUs through `xpu-smi`, or `xpu_smi` as it is called elsewhere.

Its table is that of nvidia-smi with other words: three lines for a device, then one for each process. Sources:
Paddle's installation guide for the P800 and ERNIE's for training on it, XRE 5.0 (drivers 515.58 and 5.0.21).
Intel has a tool of the same name that heads its table otherwise; older Kunlun tools have another table: both are
refused.

XPU_VISIBLE_DEVICES takes the numbers of that table. Sources: FastDeploy, deployment on Kunlunxin; Paddle,
test_empty_visible_devices. A number may change with the next boot; the PCI address does not, so it is the id.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweep.slots.provider import Device, Reading
from sweep.slots.smi import Listed, Misfit, ask, number, rows

TOOLS = ("xpu-smi", "xpu_smi")
VISIBLE = "XPU_VISIBLE_DEVICES"

_VERSION = re.compile(r"XPU-SMI Driver Version: \S+ XPU-RT Version: \S+")
_HEADING = [
    ["XPU Name Persistence-M", "Bus-Id Disp.A", "Volatile Uncorr. ECC"],
    ["Fan Temp Perf Pwr:Usage/Cap", "Memory-Usage", "XPU-Util Compute M."],
    ["", "L3-Usage", "SR-IOV M."],
]
_PROCESSES = ["XPU GI CI PID Type Process name XPU Memory"]
_PROCESS = re.compile(r"(\d+) \S+ \S+ (\d+) .*")


@dataclass
class _Card:
    index: int
    name: str
    bus: str
    numbers: dict[str, float]
    pids: list[int] = field(default_factory=list)


class Kunlun(Listed):
    """left_out: nothing; a table that cannot be read whole is not read."""

    noun = "XPU"
    variable = VISIBLE

    def __init__(self) -> None:
        super().__init__(_tool())

    def _list(self) -> list[Device]:
        return [
            Device(
                _name(card.bus),
                _name(card.bus).lower(),
                "xpu",
                card.index,
                f"Kunlun {card.name}",
                int(card.numbers["memory_total"]),
            )
            for card in ask(table, _tool())
        ]

    def _readings(self) -> Mapping[str, Reading]:
        return {
            _name(card.bus): Reading(card.numbers, tuple(card.pids) if self._pids_mean else ())
            for card in ask(table, _tool())
        }


def table(text: str) -> list[_Card]:
    """Every card with its processes. Raises Misfit."""
    lines = list(rows(text))
    if not lines or not _VERSION.fullmatch(lines[0][0]) or lines[1:4] != _HEADING:
        raise Misfit(" | ".join(lines[0]) if lines else text.strip()[:80] or "nothing")
    body = lines[4:]
    end = next((place for place, cells in enumerate(body) if cells == ["Processes:"]), len(body))
    if end % 3:
        raise Misfit(" | ".join(body[end - 1]))
    cards = {card.index: card for card in (_card(*body[place : place + 3]) for place in range(0, end, 3))}
    if end < len(body):
        if body[end + 1 : end + 2] != [_PROCESSES]:
            raise Misfit(" | ".join(body[min(end + 1, len(body) - 1)]))
        for cells in body[end + 3 :]:  # the heading has two lines
            _add_process(cards, cells)
    return list(cards.values())


def _card(first: list[str], second: list[str], third: list[str]) -> _Card:
    if [len(first), len(second), len(third)] != [3, 3, 3]:
        raise Misfit(" | ".join(first))
    who = re.fullmatch(r"(\d+) (.+) (?:N/A|On|Off)", first[0])
    bus = re.fullmatch(r"([\dA-F]{8}:[\dA-F]{2}:[\dA-F]{2}\.[\dA-F]) \S+", first[1], re.IGNORECASE)
    heat = re.fullmatch(r"\S+ (?:(\d+)C|N/A) \S+ (?:(\d+)W|N/A) ?/ ?\S+", second[0])
    memory = re.fullmatch(r"(\d+)MiB ?/ ?(\d+)MiB", second[1])
    busy = re.fullmatch(r"(?:(\d+)%|N/A) .+", second[2])
    if not (who and bus and heat and memory and busy):
        raise Misfit(" | ".join(first if not (who and bus) else second))
    numbers = {"memory_used": float(int(memory[1]) << 20), "memory_total": float(int(memory[2]) << 20)}
    told = {"utilisation": (busy[1], 100), "power": (heat[2], 1), "temperature": (heat[1], 1)}
    for name, (word, scale) in told.items():
        if (value := number(word or "")) is not None:
            numbers[name] = value / scale
    return _Card(int(who[1]), who[2], bus[1], numbers)


def _add_process(cards: dict[int, _Card], cells: list[str]) -> None:
    if re.fullmatch(r"No running processes found", cells[0]):
        return
    process = _PROCESS.fullmatch(cells[0])
    if not process or int(process[1]) not in cards:
        raise Misfit(" | ".join(cells))
    cards[int(process[1])].pids.append(int(process[2]))


def _name(bus: str) -> str:
    return "XPU-" + re.sub(r"\W", "-", bus[-12:]).lower()  # 8 digits of a domain, of which 4 are in use


def _tool() -> str:
    return next((tool for tool in TOOLS if shutil.which(tool)), TOOLS[0])
