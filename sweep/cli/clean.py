"""`sweep clean`: room on the disk from sweeps that have ended.

Rules
1.  Only a sweep that has ended is touched, and only under its controller's and its follower's locks, so that
    nobody can resume it, or send its files to MLflow, meanwhile. A dry run takes no lock and writes nothing.
2.  What is bulky goes: checkpoints and the output of trials. What tells the story stays, so `status`, `best`,
    `why` and `list` answer as before. A trial that still waits for an attempt keeps what that would resume from.
3.  What a trial wrote is not trusted. Files are found by listing `trials/<number>/<attempt>/`, never by a path
    that a trial reported; links on the way are not followed, and a link in place of a file goes as a link.
4.  A purge takes the journal last: interrupted, it can be done again.
5.  An archive has all of it; the folder goes when the archive is whole (`archive.py`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from sweep import journal, rundir
from sweep.cli import archive, words
from sweep.cli.document import checkpoint_path
from sweep.config.disk import size
from sweep.config.scalars import Pause
from sweep.core.model import Sweep
from sweep.core.pareto import front
from sweep.core.policy import best_checkpoint
from sweep.errors import BusyError, StorageError, SweepError, UsageError
from sweep.rundir import SweepDir


@dataclass
class Cleaned:
    """What went of one sweep (or would, in a dry run), in bytes; `kept` are the checkpoints that stay."""

    id: str
    directory: str
    ended: float  # seconds since the epoch
    checkpoints: int = 0
    logs: int = 0
    rest: int = 0  # of a purge, or of a folder that was archived, less its archive
    archive: str | None = None
    kept: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def freed(self) -> int:
        return self.checkpoints + self.logs + self.rest


def clean(
    wanted: str | None,
    older_than: str | None,
    *,
    keep_best: bool,
    purge: bool,
    dry_run: bool,
    as_json: bool,
    put_away: bool = False,
    keep_size: str | None = None,
) -> None:
    """Cleans one sweep, or those that ended so long ago, or the oldest until the rest takes no more than that.

    Raises SweepError; StorageError where something stayed.
    """
    if (wanted is None) == (older_than is None and keep_size is None):
        raise UsageError(
            "name a sweep, an age or a size" + (", not both" if wanted else ""),
            hint="such as: sweep clean ocr-rec-3, or sweep clean --older-than 30d (--dry-run shows what would go)",
        )
    work = _Work(keep_best=keep_best, purge=purge, archive=put_away, dry_run=dry_run)
    skipped: list[dict[str, str]] = []
    if wanted is not None:
        done = [work.clean(rundir.find(Path.cwd(), wanted))]
    else:
        before = time.time() - age(older_than) if older_than is not None else math.inf
        done, skipped = work.clean_older(Path.cwd(), before, _bytes(keep_size) if keep_size is not None else None)
    if as_json:
        print(json.dumps(_document(done, skipped, purge=purge, dry_run=dry_run)))
    else:
        _show(done, skipped, purge=purge, dry_run=dry_run)
    if errors := [error for one in done for error in one.errors]:
        raise StorageError("\n  ".join(["not everything could be removed:", *dict.fromkeys(errors)]))


def age(text: str) -> float:
    """Seconds of `30d`, `12h`; as in space.yaml, but with a unit, since a bare 30 would be seconds here too."""
    try:
        if text.strip()[-1:].isdigit():
            raise ValueError
        return TypeAdapter(Pause).validate_python(text)
    except (ValidationError, ValueError):
        raise UsageError(f"--older-than {text}: found no duration", hint="such as 30d, 12h, 90m") from None


def _bytes(text: str) -> int:
    try:
        return size(text)
    except ValueError as error:
        raise UsageError(f"--keep-size {text}: {error}") from None


class _Work:
    def __init__(self, *, keep_best: bool, purge: bool, archive: bool, dry_run: bool) -> None:
        self._keep_best = keep_best
        self._purge = purge
        self._archive = archive
        self._dry = dry_run

    def clean_older(
        self, project: Path, before: float, most: int | None
    ) -> tuple[list[Cleaned], list[dict[str, str]]]:
        """Sweeps whose last event is older, oldest first, until all of them take no more than `most` bytes.

        Also those among them that cannot be touched, with the reason.
        """
        done: list[Cleaned] = []
        skipped: list[dict[str, str]] = []
        left = _size(project / rundir.ROOT) if most is not None else 0
        for directory in rundir.sweeps(project):
            if most is not None and left <= most:
                break
            try:
                if journal.replay(directory.journal).at >= before:
                    continue
                one = self.clean(directory)
                left -= one.freed
            except SweepError as error:
                skipped.append({"id": directory.id, "why": error.message})
                continue
            if one.freed or one.errors:
                done.append(one)
        return done, skipped

    def clean(self, directory: SweepDir) -> Cleaned:
        """Raises BusyError for a sweep that somebody drives, UsageError for one that has not ended."""
        with ExitStack() as held:
            self._hold(directory, held)
            sweep = journal.replay(directory.journal)
            if not sweep.state.ended:
                hint = f"`sweep resume {sweep.id}` goes on with it, `sweep stop {sweep.id}` ends it"
                raise UsageError(f"{sweep.id} has not ended; its controller is gone", hint=hint)
            done = Cleaned(sweep.id, str(directory.path), sweep.at)
            if self._archive:
                self._put_away(directory, done)
                return done
            kept = set() if self._purge else self._keeps(sweep, directory)
            for trial, folder in _attempts(directory):
                waits = trial in sweep.trials and not sweep.trials[trial].state.terminal
                if self._purge or not waits:
                    self._clean_attempt(folder, kept, done)
            if self._purge:
                self._take_folder(directory, done)
            elif done.freed and not self._dry:
                _log(directory, done)
            return done

    def _hold(self, directory: SweepDir, held: ExitStack) -> None:
        for file, why in (
            (directory.controller_lock, f"is running; `sweep stop {directory.id}` ends it"),
            (directory.follower_lock, "is still being brought to MLflow; see its follower.log"),
        ):
            try:
                if not self._dry:
                    held.callback(os.close, rundir.lock(file, "`sweep clean`"))
                elif rundir.locked(file):
                    raise BusyError("")
            except BusyError:
                raise BusyError(f"{directory.id} {why}") from None
            except OSError as error:
                raise StorageError(f"cannot lock {file}: {error.strerror}") from None

    def _keeps(self, sweep: Sweep, directory: SweepDir) -> set[str]:
        """Of the best trial (of each of a Pareto set, of a job) the best checkpoint, and that of `sweep best`."""
        if not self._keep_best:
            return set()
        directions = sweep.rules.directions
        found: set[str] = set()
        for trial in front(sweep.trials.values(), directions) if directions else sweep.trials.values():
            best = best_checkpoint(trial, sweep.rules.first[1])
            named = checkpoint_path(sweep, trial, directory) if directions else None
            paths = [named, str(directory.path / best.directory) if best else None]
            found.update(os.path.normpath(path) for path in paths if path)
        return found

    def _clean_attempt(self, folder: Path, kept: set[str], done: Cleaned) -> None:
        done.logs += self._take(folder / "output.log", done)
        checkpoints = folder / "checkpoints"
        if checkpoints.is_symlink():
            done.checkpoints += self._take(checkpoints, done)
            return
        for entry in _entries(checkpoints):
            if str(entry) in kept and entry.is_dir():
                done.kept.append(str(entry))
            else:
                done.checkpoints += self._take(entry, done)
        if not self._dry:
            _remove_empty(checkpoints)

    def _put_away(self, directory: SweepDir, done: Cleaned) -> None:
        done.archive = str(rundir.archive(directory))
        done.rest = _size(directory.path)
        if not self._dry:
            done.rest -= _size(archive.pack(directory))
            try:
                archive.take_away(directory)
            except OSError as error:
                done.errors.append(f"{error.filename or directory.path}: {error.strerror}")

    def _take_folder(self, directory: SweepDir, done: Cleaned) -> None:
        before = done.freed if self._dry else 0  # in a dry run, what was counted is still there
        for entry in _entries(directory.path):
            if entry != directory.journal:
                done.rest += self._take(entry, done)
        if not done.errors:
            done.rest += self._take(directory.journal, done)
            if not self._dry:
                _remove_empty(directory.path)
                _remove_empty(directory.path.parent)
        done.rest -= before

    def _take(self, path: Path, done: Cleaned) -> int:
        """Removes a file, a link or a folder (in a dry run only counts); returns the bytes that are free then."""
        size = _size(path)
        if self._dry or not os.path.lexists(path):
            return size
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            done.errors.append(f"{error.filename or path}: {error.strerror}")
            return size - _size(path)
        return size


def _attempts(directory: SweepDir) -> Iterator[tuple[int, Path]]:
    """(number of the trial, folder of the attempt) of all that are on disk as folders of their own."""
    trials = [] if directory.trials.is_symlink() else _entries(directory.trials)
    for trial in trials:
        if trial.name.isdecimal() and not trial.is_symlink():
            for attempt in _entries(trial):
                if attempt.name.isdecimal() and not attempt.is_symlink() and attempt.is_dir():
                    yield int(trial.name), attempt


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda entry: words.natural(entry.name))
    except OSError:
        return []


def _size(path: Path) -> int:
    """Bytes that its removal frees: links are not followed, and a file that has another name stays."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    if stat.S_ISDIR(found.st_mode):
        return sum(_size(entry) for entry in _entries(path))
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # there is something in it yet, or it is not there
        folder.rmdir()


def _log(directory: SweepDir, done: Cleaned) -> None:
    """So that who misses a file finds out where it went."""
    at = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        with directory.controller_log.open("a") as log:
            log.write(f"{at},000 INFO sweep.clean: `sweep clean` removed {_parts(done)}\n")
    except OSError:
        pass


def _parts(one: Cleaned) -> str:
    parts = [
        (one.checkpoints, "of checkpoints"),
        (one.logs, "of output"),
        (one.rest, "of everything else"),
    ]
    return ", ".join(f"{words.size(count)} {what}" for count, what in parts if count) or "nothing"


def _document(done: list[Cleaned], skipped: list[dict[str, str]], *, purge: bool, dry_run: bool) -> dict[str, Any]:
    sweeps = [{**vars(one), "freed": one.freed} for one in done]
    freed = sum(one.freed for one in done)
    return {"dry_run": dry_run, "purge": purge, "freed": freed, "sweeps": sweeps, "skipped": skipped}


def _show(done: list[Cleaned], skipped: list[dict[str, str]], *, purge: bool, dry_run: bool) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    whole = purge or any(one.archive for one in done)
    for title in ("sweep", "ended", "checkpoints", "output", *(["the rest"] if whole else []), "stays"):
        table.add_column(title, justify="right" if title in ("checkpoints", "output", "the rest") else "left")
    for one in done:
        sizes = [one.checkpoints, one.logs, *([one.rest] if whole else [])]
        stays = "nothing" if purge else _stays(one)
        ago = f"{words.roughly(time.time() - one.ended)} ago"
        table.add_row(one.id, ago, *(words.size(size) if size else "" for size in sizes), stays)
    if done:
        console.print(table)
    for miss in skipped:
        console.print(f"left alone: {miss['why']}", highlight=False, markup=False, soft_wrap=True)
    freed = words.size(sum(one.freed for one in done))
    told = f"would free {freed}; nothing was changed" if dry_run else f"freed {freed}"
    console.print(told if any(one.freed for one in done) else "nothing to clean", highlight=False)
    if archived := [one for one in done if one.archive]:
        back = archive.restoring(Path(str(archived[-1].archive)))
        console.print(f"to have {archived[-1].id} back: {back}", highlight=False, markup=False, soft_wrap=True)
    if purge and done:
        console.print("runs in MLflow stay: delete them there", style="dim", highlight=False)


def _stays(one: Cleaned) -> str:
    if one.archive:
        return os.path.relpath(one.archive)
    paths = [os.path.relpath(path, one.directory) for path in one.kept]
    more = f" and {words.plural(len(paths) - 1, 'more checkpoint')}" if len(paths) > 1 else ""
    return f"the journal, {paths[0]}{more}" if paths else "the journal"
