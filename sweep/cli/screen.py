"""Where a person or a program sees a sweep that this process drives.

rich is imported where it draws: it takes as long as a tenth of a sweep's start.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.cli.detached import start
from sweep.cli.document import sweep_document
from sweep.cli.keys import Keys, has_keys
from sweep.cli.plain import PlainLines
from sweep.notify import tell
from sweep.ports import View
from sweep.session import Session
from sweep.tracking.lag import CATCH_UP, lag_of

if TYPE_CHECKING:
    from sweep.cli.live import LiveTable


class Screen:
    """Where a person or a program sees the sweep: the table on a terminal, else lines (on stderr for --json)."""

    def __init__(self, *, plain: bool, as_json: bool) -> None:
        self.as_json = as_json
        self._table = _table() if not plain and not as_json and sys.stdout.isatty() else None
        self.view: View = self._table or PlainLines(sys.stderr if as_json else sys.stdout)

    def say(self, text: str) -> None:
        with suppress(OSError):
            print(text, file=sys.stderr)

    def drive(self, session: Session) -> int:
        if not self.as_json:
            with suppress(OSError):  # nobody reads: the sweep goes on all the same
                print(f"{session.sweep.id}  in {session.directory.path}\n{session.pool.said}", flush=True)
        detached = False

        def pressed(key: str) -> None:
            nonlocal detached
            if key == "d":
                detached = True
                session.controller.leave()

        try:
            with self._table or nullcontext(), Keys(pressed) if self._table and has_keys() else nullcontext():
                code = session.run()
        finally:
            session.close()
        tell(session.sweep, session.directory, sweep_document, os.environ, self.say)
        if detached and not session.sweep.state.ended:
            return self._hand_over(session)
        if session.sweep.state.ended:
            self._wait_for_mlflow(session)
        if self.as_json:
            with suppress(BrokenPipeError):
                print(json.dumps(sweep_document(session.sweep, session.directory, controller_alive=False)))
        elif session.sweep.state.ended:
            _summary(session)
        else:
            self.say(f"left: its trials train on; `sweep resume {session.sweep.id}` takes them over")
        return code

    def _hand_over(self, session: Session) -> int:
        """Another controller, without a terminal, adopts what this one has left."""
        said = start({"directory": str(session.directory.path), "events": []})
        self.say(f"{said['id']} goes on in the background; `sweep attach {said['id']}` shows it")
        return 0

    def _wait_for_mlflow(self, session: Session) -> None:
        """Gives the follower time to catch up, unless the store is in trouble or the user impatient."""
        follower = session.follower
        if follower is None or follower.wait(0.5):
            return
        until = time.monotonic() + CATCH_UP
        said = "MLflow is catching up (Ctrl-C leaves it to go on behind)"
        quiet = self._table.console.status(said) if self._table else nullcontext()
        try:
            with quiet:
                while time.monotonic() < until and not follower.wait(0.2):
                    lag = lag_of(session.directory)
                    if lag is not None and lag.outage:
                        return
        except KeyboardInterrupt:
            pass


def _table() -> LiveTable | None:
    from sweep.cli.live import LastingConsole, LiveTable, can_draw

    console = LastingConsole()
    return LiveTable(console, Path.cwd(), detach=has_keys()) if can_draw(console) else None


def _summary(session: Session) -> None:
    from sweep.cli.live import LastingConsole
    from sweep.cli.summary import print_summary

    print_summary(LastingConsole(), session.sweep, session.directory)
