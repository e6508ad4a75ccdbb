"""Devices that only a vendor's tool tells of, in a table for people.

A table is read whole or not at all: a heading that is not known, or a line that does not fit, is refused with the
line in words, since a number out of the wrong column would hand a busy device to a trial. One call tells of every
device and takes a second where there are many, so what it said is believed for AGE seconds at least.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from sweep.errors import DeviceError
from sweep.slots.foreign import pids_mean
from sweep.slots.provider import Device, Reading

AGE = 1.0
REST = 4.0  # times as long as a call took, it is not made again: two cores must not be busy with looking
LIMIT = 30.0  # seconds that a call may take; a driver that hangs never answers


_Found = TypeVar("_Found")


class Misfit(Exception):
    """The output is not what is known of this tool."""


class Listed(ABC):
    """`provider.Provider` of a tool. left_out: devices of which it tells too little, in words."""

    noun: str
    variable: str

    def __init__(self, tool: str) -> None:
        """Raises DeviceError that says why there is no device."""
        self.left_out: list[str] = []
        self._pids_mean = pids_mean() == "true"
        self._latest: Mapping[str, Reading] = {}
        self._trouble = ""
        self._stale = 0.0
        try:
            self._devices = self._list()
        except DeviceError as error:
            hint = f"`{tool}` shows whether the driver works; `devices: cpu` does without an {self.noun}"
            raise DeviceError(f"no {self.noun} found ({error.message})", hint=hint) from None
        if not self._devices:
            raise DeviceError(f"no {self.noun} found ({tool} lists none)")

    @abstractmethod
    def _list(self) -> list[Device]:
        """By index. Raises DeviceError."""

    @abstractmethod
    def _readings(self) -> Mapping[str, Reading]:
        """A look at all devices now, by id. Raises DeviceError."""

    def devices(self) -> list[Device]:
        return self._devices

    def measure(self, device: Device) -> Reading:
        if time.monotonic() >= self._stale:
            began = time.monotonic()
            try:
                self._latest, self._trouble = self._readings(), ""
            except DeviceError as error:
                self._latest, self._trouble = {}, error.message
            ended = time.monotonic()
            self._stale = ended + max(AGE, REST * (ended - began))
        gone = Reading(trouble=self._trouble or "it is not listed any more", gone=not self._trouble)
        return self._latest.get(device.id, gone)

    def befallen(self) -> Mapping[str, str]:
        return {}  # these tools tell of states, not of events

    def apart(self, one: Device, other: Device) -> int:
        return abs(one.index - other.index)

    def pin(self, device: Device) -> dict[str, str]:
        return {self.variable: str(device.index)}

    def close(self) -> None:  # noqa: B027
        pass


def ask(parse: Callable[[str], _Found], tool: str, *arguments: str) -> _Found:
    """What the tool prints, parsed. Raises DeviceError that names it: not there, no answer, unknown output."""
    text = _output(tool, *arguments)
    try:
        return parse(text)
    except Misfit as error:
        said = " ".join((tool, *arguments))
        raise DeviceError(f"this version of `{said}` is not known: it says `{error}`") from None


def _output(tool: str, *arguments: str) -> str:
    if shutil.which(tool) is None:
        raise DeviceError(f"{tool} is not on PATH")
    said = " ".join((tool, *arguments))
    environment = {name: value for name, value in os.environ.items() if not name.endswith("VISIBLE_DEVICES")}
    try:
        done = subprocess.run(
            [tool, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environment, "LC_ALL": "C"},
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"`{said}` has not answered for {LIMIT:.0f} s") from None
    except OSError as error:
        raise DeviceError(f"`{said}` cannot be run: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
        raise DeviceError(f"`{said}` failed with {done.returncode}{': ' + last[0][:200] if last else ''}")
    return done.stdout.decode(errors="replace")


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every line between bars, with single spaces; rules such as +----+ and |====| are left out."""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("|") and not re.fullmatch(r"[|+=\-]+", line):
            yield [" ".join(cell.split()) for cell in line.strip("|").split("|")]


def number(word: str) -> float | None:
    """None for what a device does not tell: `-`, `NA`, `N/A`."""
    try:
        return float(word)
    except ValueError:
        return None
