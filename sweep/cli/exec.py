"""`sweep exec`: one command here and now, in the foreground, under leases of free devices.

Rules
1.  The command is a child in the same process group, on the caller's own terminal: Ctrl-C and Ctrl-Z reach it as
    they would without us. What is sent to this process alone is passed on to it.
2.  Every descendant becomes our child in the end (sub-reaper). When the command has ended, what it has left
    running is ended too, and only then do the leases go: they live exactly as long as a process of it.
3.  Killed ourselves, the command dies with us (PR_SET_PDEATHSIG); it and whoever inherited the leases' descriptors
    hold the leases until they are gone.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from sweep.cli import words
from sweep.config.command import script_of
from sweep.config.model import Devices
from sweep.errors import ConfigError, UsageError
from sweep.launch.process import become_subreaper, die_with_parent, end_descendants
from sweep.ports import Slot
from sweep.slots.bundle import together
from sweep.slots.health import holder_name
from sweep.slots.opening import open_pool
from sweep.slots.pool import Pool

PROBE = 0.25  # seconds between two tries
LOOK = 1.0  # between two looks at whom we wait for
_PASSED_ON = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP}
_FROM_THE_TERMINAL = 0x80  # SI_KERNEL in siginfo.h: the whole process group has got it
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them


def exec_command(devices: str, command: Sequence[str], priority: int) -> int:
    """Returns the command's exit code, 128 + signal where one ended it. Raises SweepError."""
    if shutil.which(command[0]) is None:
        print(f"sweep: {command[0]}: command not found", file=sys.stderr)
        return 127
    number, wanted = _wanted(devices)
    pool = open_pool(wanted, 1, os.environ, per_trial=number)
    pool.priority = priority
    try:
        taken = _wait(pool, {"command": _title(command)})
    finally:
        pool.close()
    return _run(command, together([slot for slot, _ in taken]).env, [lease for _, lease in taken])


def _wanted(devices: str) -> tuple[int, Devices]:
    """`2` is two of all there are; anything else is read as `devices` of space.yaml, of which one is taken."""
    if devices.isdecimal():
        if int(devices) == 0:
            raise UsageError("--devices 0: at least one", hint="GPU 0 is `--devices '[0]'`")
        return int(devices), Devices()
    from pydantic import ValidationError

    from sweep.config.reading import assignments

    try:
        return 1, Devices.model_validate(assignments([f"devices={devices}"])["devices"])
    except (ValidationError, ConfigError):
        raise UsageError(
            f"--devices {devices}: no such device",
            hint="a number of devices, or which: auto, gpu, gpu:2, npu, xpu, cpu:4, [0, 2], or UUIDs",
        ) from None


def _title(command: Sequence[str]) -> str:
    """The script's or the program's name; arguments may hold what is nobody else's business."""
    return Path(script_of(list(command)) or command[0]).name


def _wait(pool: Pool, holder: Mapping[str, str]) -> list[tuple[Slot, int]]:
    said, look = "", 0.0
    while (taken := pool.acquire_all(pool.per_trial, holder)) is None:
        now = time.monotonic()
        if now >= look:
            look = now + LOOK
            why = _obstacles(pool)
            if why != said:
                said = why
                wanted = words.plural(pool.per_trial, "device")
                print(f"sweep: waiting for {wanted}: {why}", file=sys.stderr, flush=True)
        time.sleep(PROBE)
    if said:
        got = ", ".join(f"{_label(slot)} ({slot.device})" for slot, _ in taken)
        print(f"sweep: got {words.clean(got)}", file=sys.stderr, flush=True)
    return taken


def _obstacles(pool: Pool) -> str:
    """For whom we wait, in words."""
    if pool.bar:
        return pool.bar
    trouble, found = pool.trouble, []
    for slot in pool.slots:
        holder = pool.holder(slot)
        if holder is not None:
            found.append(f"{_label(slot)} is held by {holder_name(holder)}")
        elif slot.device in trouble:
            found.append(f"{_label(slot)} is not used: {trouble[slot.device]}")
    free = len(pool.slots) - len(found)
    if free:
        found.append(f"{words.plural(free, 'device')} being freed, or kept for others who have waited longer")
    return words.clean("; ".join(found))


def _label(slot: Slot) -> str:
    return slot.name if slot.kind == "cpu" else f"{slot.kind.upper()} {slot.index}"


# ---- the command ---------------------------------------------------------------------------------------------


def _run(command: Sequence[str], env: Mapping[str, str], leases: Sequence[int]) -> int:
    awaited = {signal.SIGCHLD, *_PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    become_subreaper()
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        _become(command, env, leases, parent, before)
    status = _watch(pid, awaited)
    end_descendants()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become(
    command: Sequence[str], env: Mapping[str, str], leases: Sequence[int], parent: int, mask: Iterable[int]
) -> NoReturn:
    try:
        die_with_parent(parent)
        for lease in leases:
            os.set_inheritable(lease, True)
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execvpe(command[0], list(command), {**os.environ, **env})
    except OSError as error:
        print(f"sweep: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(126)


def _watch(command: int, awaited: set[signal.Signals]) -> int:
    """Reaps whoever ends, until the command has; returns its wait status."""
    while True:
        heard = signal.sigwaitinfo(awaited)
        if heard.si_signo == signal.SIGCHLD:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == command:
                    return ended[1]
        elif heard.si_code != _FROM_THE_TERMINAL:
            os.kill(command, heard.si_signo)
