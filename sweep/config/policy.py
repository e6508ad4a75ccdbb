"""What the administrator of a machine lets its users have: /etc/sweep/policy.yaml, if it is there.

    lock_dir: /run/lock/sweep      # where leases are counted; whatever SWEEP_LOCK_DIR says
    rules:
      - groups: [students]         # or users: [ann]; a rule with neither is everybody's
        devices: [0, 1, cpu]       # numbers, beginnings of UUIDs, or kinds
        count: 2                   # devices at once, on the whole machine
        quiet: ["22:00-06:00"]     # nothing new is started then, by the clock of the machine

Every rule that names a user holds for them: several are narrower than one. The path is fixed, and nothing in a
user's file, environment or command line is asked: what could move it could widen it. A file that cannot be read as
this refuses everybody, since what it meant to forbid is not known.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from sweep.config.parameters import Model
from sweep.config.reading import read
from sweep.config.scalars import Count, Text
from sweep.errors import ConfigError, DeviceError

FILE = Path("/etc/sweep/policy.yaml")
_WINDOW = re.compile(r"([01]?\d|2[0-3]):([0-5]\d) ?- ?([01]?\d|2[0-3]):([0-5]\d)")


def _window(text: str) -> str:
    if not _WINDOW.fullmatch(text):
        raise ValueError("a time of day to another, such as `22:00-06:00`")
    return text


Window = Annotated[str, AfterValidator(_window)]
Word = Annotated[str, BeforeValidator(lambda one: str(one) if isinstance(one, int) else one)]


class Rule(Model):
    users: list[Text] | None = None
    groups: list[Text] | None = None
    devices: list[Word] | None = None
    count: Count | None = None
    quiet: list[Window] = Field(default_factory=list)

    def names(self, user: str, groups: set[str]) -> bool:
        if self.users is None and self.groups is None:
            return True
        return user in (self.users or ()) or not groups.isdisjoint(self.groups or ())


class Policy(Model):
    lock_dir: Text | None = None
    rules: list[Rule] = Field(default_factory=list)


@dataclass(frozen=True)
class Allowance:
    """What one user may have. devices: words of which each list must have one for a device; count: at once."""

    lock_dir: str | None = None
    devices: tuple[tuple[str, ...], ...] = ()
    count: int | None = None
    quiet: tuple[str, ...] = ()

    def permits(self, kind: str, index: int, uuid: str) -> bool:
        mine = {kind} if kind == "cpu" else {kind, str(index)}
        return all(
            any(word in mine or (len(word) > 4 and uuid.startswith(word)) for word in words)
            for words in self.devices
        )

    def silence(self, now: datetime) -> str:
        """Until when nothing may be started, such as "06:00"; empty if something may."""
        for window in self.quiet:
            hours = _WINDOW.fullmatch(window)
            assert hours is not None
            begin, end = time(int(hours[1]), int(hours[2])), time(int(hours[3]), int(hours[4]))
            here = now.time()
            if begin <= here < end if begin < end else here >= begin or here < end:
                return f"{end:%H:%M}"
        return ""

    def words(self) -> str:
        """For people; empty where it allows all."""
        said = [f"only {' or '.join(words)}" for words in self.devices]
        if self.count is not None:
            said.append(f"{self.count} device{'' if self.count == 1 else 's'} at once")
        said += [f"nothing is started {window}" for window in self.quiet]
        return f"by {FILE} {'; '.join(said)}" if said else ""


def allowance(uid: int | None = None) -> Allowance | None:
    """What the policy lets this user have (by default this process's); None where there is none.

    Raises DeviceError for a file that is there and cannot be read as a policy.
    """
    try:
        FILE.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(f"{FILE}: {error.strerror}") from None
    try:
        policy = Policy.model_validate(read(FILE).data)
    except ConfigError as error:
        raise _unreadable(str(error.message)) from None
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise _unreadable(f"{FILE}: {path}: {first['msg'].removeprefix('Value error, ')}") from None
    user, groups = _who(os.geteuid() if uid is None else uid)
    mine = [rule for rule in policy.rules if rule.names(user, groups)]
    return Allowance(
        policy.lock_dir,
        tuple(tuple(rule.devices) for rule in mine if rule.devices is not None),
        min((rule.count for rule in mine if rule.count is not None), default=None),
        tuple(window for rule in mine for window in rule.quiet),
    )


def _unreadable(said: str) -> DeviceError:
    return DeviceError(f"the policy of this machine cannot be read: {said}", hint="the administrator must mend it")


def _who(uid: int) -> tuple[str, set[str]]:
    """By the system's own lists, whatever the environment says."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return str(uid), set()
    groups = set()
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        try:
            groups.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            groups.add(str(gid))
    return entry.pw_name, groups
