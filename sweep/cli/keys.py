"""Single keys from the terminal, while a table is on it."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import TracebackType

LOOK = 0.2  # seconds between two looks whether it is still ours


class Keys(threading.Thread):
    """Hands each key to `pressed`, in a thread of its own, while it is entered. Ctrl-C stays a signal.

    Only reads while this process is in the terminal's foreground: a background process that reads is stopped.
    """

    def __init__(self, pressed: Callable[[str], None]) -> None:
        super().__init__(name="keys", daemon=True)
        self._pressed = pressed
        self._end = threading.Event()
        self._terminal = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._terminal)

    def run(self) -> None:
        while not self._end.is_set():
            try:
                ready, _, _ = select.select([self._terminal], [], [], LOOK)
                if not ready or os.tcgetpgrp(self._terminal) != os.getpgrp():
                    self._end.wait(LOOK if ready else 0)
                    continue
                key = os.read(self._terminal, 1)
            except OSError:  # the terminal is gone
                return
            if not key:
                return
            self._pressed(key.decode(errors="replace"))

    def __enter__(self) -> Keys:
        tty.setcbreak(self._terminal)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self.join()
        with contextlib.suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)


def has_keys() -> bool:
    """Whether there is a terminal to read keys from, and we are in its foreground."""
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False
