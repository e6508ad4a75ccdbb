"""Devices that are out of service, for every sweep and every user of this machine, until somebody heals them.

`<lock folder>/out/<slot of the whole device>` says why, since when and who found it, and outlives the sweep that
wrote it: different trials failed there, or something has befallen the device (Provider.befallen). What a device
says of itself at every reading (uncorrected errors of its memory) needs no file: everybody sees it. A file with
`healed` is the opposite: what the device said of itself then is not held against it any more.
Users need not trust each other: no symbolic links, and only its writer or root may remove a file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweep.errors import DeviceError
from sweep.slots.leases import user_name

_FOLDER_MODE = 0o1777
_LONGEST = 4096


class Faults:
    """folder: the lock folder, which is there once somebody has leased anything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "out"

    def of(self, slot: str, told: str = "") -> str:
        """Why this device is out of service, in words; empty if it is not. told: what it says of itself."""
        facts = self._read(slot)
        if isinstance(why := facts.get("why"), str) and why:
            since = facts.get("since")
            when = time.strftime(" since %d %b %H:%M", time.localtime(since)) if isinstance(since, float) else ""
            return f"out of service{when}: {why}"
        return "" if told == facts.get("healed") else told

    def take_out(self, slot: str, why: str, sweep: str | None = None) -> None:
        """sweep: the one whose trials failed on it, if any. Raises OSError where it cannot be written down."""
        self._write(slot, {"why": why, "since": time.time(), "sweep": sweep, "user": user_name(os.geteuid())})

    def heal(self, slot: str, told: str = "") -> None:
        """Raises DeviceError for what another user took out of service, or where that cannot be written down."""
        path = self._folder / slot
        try:
            with suppress(FileNotFoundError):
                path.unlink()
            if told:
                self._write(slot, {"healed": told, "since": time.time(), "user": user_name(os.geteuid())})
        except OSError as error:
            place = next(one for one in (path, *path.parents) if os.path.lexists(one))
            owner = user_name(place.lstat().st_uid)
            taken = f"it was taken out by a sweep of {owner}" if place == path else f"{place} is {owner}'s"
            who = owner if owner == "root" else f"{owner} or root"
            raise DeviceError(
                f"{slot} cannot be healed: {taken} ({error.strerror})", hint=f"{who} can type `sweep devices heal`"
            ) from None

    def _read(self, slot: str) -> Mapping[str, Any]:
        try:
            handle = os.open(self._folder / slot, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return {}
        try:
            facts = json.loads(os.read(handle, _LONGEST))
        except (OSError, ValueError):
            return {}
        finally:
            os.close(handle)
        return facts if isinstance(facts, dict) else {}

    def _write(self, slot: str, facts: Mapping[str, Any]) -> None:
        try:
            self._folder.mkdir(parents=True)
            self._folder.chmod(_FOLDER_MODE)
        except FileExistsError:
            pass
        whole = self._folder / f".{slot}.{os.getpid()}"
        handle = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, json.dumps(facts, ensure_ascii=False).encode()[:_LONGEST])
            os.fchmod(handle, 0o644)
            whole.replace(self._folder / slot)
        except OSError:
            whole.unlink()
            raise
        finally:
            os.close(handle)
