"""Leases of slots, for every sweep and every user of this machine.

A lease is an exclusive flock on `<lock folder>/<slot>`. The kernel keeps it while any process has a copy of the
descriptor open and drops it with the last one, so there is nothing to clean up. The rules:

1. The lock is the truth. What the file says is for people: of a held lease who holds it; of a free one who held it
   last, or under `held_back` why whoever tried it last left it alone.
2. Lock first, look second. The file may have been deleted or replaced between open and flock: what is locked must
   still be what the name stands for. A whole device (`gpu-x`) and its shares (`gpu-x.0`) are different files: each
   side locks its own and then looks at the other's, so never do both succeed. Both may fail, and try again later.
3. To look is to take a shared lock for an instant. Whoever meets a shared lock tries again; only an exclusive one
   means that the slot is taken.
4. Users need not trust each other: no symbolic links, no files of a second name. An existing file is opened
   without O_CREAT, which fs.protected_regular forbids on somebody else's file in a sticky folder.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sweep.errors import DeviceError
from sweep.rundir import is_taken, take_lock
from sweep.slots.provider import Device

_TRIES = 20
_FOLDER_MODE = 0o1777
# The sticky bit makes systemd-tmpfiles spare an old file: a lock file that is deleted while it is held would let
# a second holder in. (XDG Base Directory Specification, on files that stay in a runtime folder.)
_FILE_MODE = 0o1666


@dataclass(frozen=True)
class Held:
    """A lease that somebody holds. `file` is (st_dev, st_ino) of its lock file; facts are empty if unsaid."""

    file: tuple[int, int]
    facts: dict[str, Any]


def lock_folder(environ: Mapping[str, str]) -> Path:
    """Where this machine's leases are: SWEEP_LOCK_DIR, or a place that every user finds and may write to."""
    if named := environ.get("SWEEP_LOCK_DIR"):
        return Path(named).resolve()
    shared = Path("/run/lock")
    try:
        mode = shared.stat().st_mode
    except OSError:
        mode = 0
    if mode & stat.S_ISVTX and mode & stat.S_IWOTH and os.access(shared, os.W_OK):
        return shared / "sweep"
    return Path("/tmp/sweep-locks")


class LockFolder:
    """Who holds what, for those who only look. Methods raise OSError where a lock file cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def look(self, name: str) -> Held | None:
        """The lease's holder, or None if it is free."""
        return self._look(name)[0]

    def left_word(self, name: str) -> dict[str, Any]:
        """What the file of a free lease says; nothing if it is held."""
        held, facts = self._look(name)
        return {} if held else facts

    def of_device(self, whole: str) -> list[Held]:
        """The leases that are held on a device, of the whole or of shares, as far as they can be looked at."""
        found = []
        for name in (whole, *self.shares(whole)):
            with suppress(OSError):
                if held := self.look(name):
                    found.append(held)
        return found

    def shares(self, whole: str) -> list[str]:
        """The lock files of a device's shares, held or not."""
        beginning = whole + "."
        return [name for name in self.names() if name.startswith(beginning)]

    def rivals(self, name: str) -> list[str]:
        """The leases that exclude this one: of the device's shares, or of the whole."""
        whole, _, share = name.partition(".")
        return [whole] if share else self.shares(whole)

    def names(self) -> list[str]:
        """Every lock file, and what else lies in the folder; nothing if it is not there. Raises DeviceError."""
        try:
            return os.listdir(self.folder)  # noqa: PTH208 (much faster)
        except FileNotFoundError:
            return []
        except OSError as error:
            hint = "`sweep doctor` looks at it; SWEEP_LOCK_DIR names another"
            raise DeviceError(f"cannot read the lock folder {self.folder}: {error.strerror}", hint=hint) from None

    def _look(self, name: str) -> tuple[Held | None, dict[str, Any]]:
        try:
            handle = os.open(self._path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None, {}
        try:
            taken = is_taken(handle)
            facts = _facts(os.pread(handle, 1 << 16, 0))
            status = os.fstat(handle)
            return Held((status.st_dev, status.st_ino), facts) if taken else None, facts
        finally:
            os.close(handle)

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"


class Leases(LockFolder):
    """The lock folder for those who take leases. No method raises for a lease that is taken.

    last_words: what the file of the newest lease said before it was taken.
    """

    def __init__(self, folder: Path) -> None:
        """Raises DeviceError if the folder cannot be made or written to."""
        super().__init__(folder)
        self.last_words: dict[str, Any] = {}
        self._make_folder()

    # A policy says more of these: see gate.py.

    def permits(self, device: Device) -> bool:
        """Whether this user may ever have it."""
        return True

    @property
    def policy(self) -> str:
        """What this user may have, in words; empty where all is allowed."""
        return ""

    def never(self, number: int) -> str:
        """Why this user may never have so many devices at once, in words; empty if they may."""
        return ""

    def barred(self, number: int, slot: str = "") -> str:
        """Why this user may not have so many devices more, or this slot, now, in words; empty if they may."""
        return ""

    def acquire(self, name: str) -> int | None:
        """The descriptor that holds the lease, not inherited through exec; None if the slot is taken."""
        for _ in range(_TRIES):
            lease = self._open(name)
            kept = False
            try:
                if not take_lock(lease):
                    return None
                if self._is_current(lease, name):
                    if any(map(self.look, self.rivals(name))):
                        return None
                    self.last_words = _facts(os.pread(lease, 1 << 16, 0))
                    describe(lease, {})
                    kept = True
                    return lease
            finally:
                if not kept:
                    os.close(lease)
        return None

    def _is_current(self, lease: int, name: str) -> bool:
        try:
            return os.path.samestat(os.fstat(lease), os.lstat(self._path(name)))
        except FileNotFoundError:
            return False

    def _open(self, name: str) -> int:
        path = self._path(name)
        for _ in range(_TRIES):
            try:
                lease = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                break
            except FileNotFoundError:
                pass
            try:
                lease = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                break
            except FileExistsError:
                continue
            except FileNotFoundError:
                self._make_folder()  # a cleaner of old files took it away
        else:
            raise FileNotFoundError(errno.ENOENT, "it vanishes as soon as it is made", path)
        try:
            _admit(lease, path)
        except BaseException:
            os.close(lease)
            raise
        return lease

    def _make_folder(self) -> None:
        hint = "set SWEEP_LOCK_DIR to a folder that every user of this machine may write to"
        try:
            self.folder.mkdir()
            self.folder.chmod(_FOLDER_MODE)  # mkdir's own mode is cut by the umask
        except FileExistsError:
            pass
        except OSError as error:
            raise DeviceError(f"cannot make the lock folder {self.folder}: {error.strerror}", hint=hint) from None
        if self.folder.is_symlink() or not self.folder.is_dir():
            raise DeviceError(f"the lock folder {self.folder} is not a folder", hint=hint)
        for _ in range(_TRIES):
            if os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
                return
            time.sleep(0.02)  # another user may be between mkdir and chmod
        owner = user_name(self.folder.stat().st_uid)
        raise DeviceError(
            f"the lock folder {self.folder} belongs to {owner} and you may not write to it",
            hint=f"ask {owner} for `chmod 1777 {self.folder}`, or {hint}",
        )


def describe(lease: int, facts: Mapping[str, Any]) -> None:
    """Writes who holds the lease into its file, in place of what it said. Raises OSError."""
    text = json.dumps(facts, ensure_ascii=False).encode()
    # Cut to length afterwards: a file cut to nothing is flushed by ext4 when it is closed. A reader who comes in
    # between finds the rest of the old text behind the new, no JSON, and so no facts.
    os.ftruncate(lease, os.pwrite(lease, text, 0))


@cache
def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _admit(lease: int, path: str) -> None:
    """Lets every user at a lock file of our own, and refuses what is not a lock file."""
    status = os.fstat(lease)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise OSError(errno.EINVAL, "not a plain file of a single name", path)
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != _FILE_MODE:
        os.fchmod(lease, _FILE_MODE)


def _facts(text: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
