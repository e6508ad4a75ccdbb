"""The state as of one record of the journal, beside it: a long journal need not be read from its start.

Rules
1.  The journal is the truth. A snapshot counts only if this very version of sweep wrote it, and if the record that
    was the newest then still stands at its place in the journal; otherwise the journal is read from its start.
2.  It is there as a whole or not at all, and losing it costs time only: nobody waits for it to reach the disk.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import NamedTuple

from sweep import __version__
from sweep.core.codec import SHAPE, rows, state_from_rows
from sweep.core.model import Sweep
from sweep.lines import loads
from sweep.rundir import write_atomic

log = logging.getLogger("sweep.snapshot")
_WRITER = [__version__, SHAPE]


class Mark(NamedTuple):
    """A record's place in its journal. end: the byte behind its line, which has its newline."""

    seq: int
    end: int
    line: bytes


def beside(journal: Path) -> Path:
    return journal.with_suffix(".snapshot")


def save(journal: Path, sweep: Sweep, mark: Mark) -> None:
    """What cannot be written is left out: the next one may succeed."""
    place = [mark.seq, mark.end, mark.line.decode(errors="surrogateescape")]
    try:
        write_atomic(beside(journal), json.dumps([_WRITER, place, sweep], default=rows, separators=(",", ":")))
    except OSError as error:
        log.warning("cannot write %s: %s", beside(journal), error.strerror)


def load(journal: Path) -> tuple[Sweep, Mark] | None:
    """The state and the record that it goes up to; None where there is no snapshot that fits the journal."""
    try:
        writer, (seq, end, text), state = loads(beside(journal).read_bytes())
        line = text.encode(errors="surrogateescape")
        if writer != _WRITER or not _stands(journal, end, line):
            return None
        return state_from_rows(state), Mark(seq, end, line)
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _stands(journal: Path, end: int, line: bytes) -> bool:
    with journal.open("rb") as file:
        file.seek(end - len(line))
        return file.read(len(line)) == line
