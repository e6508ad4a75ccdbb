"""The controller's end of the line: one JSON object a line over a socket that it inherited to us."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from typing import Any

_KEPT = 1 << 20  # bytes of answers kept for a controller that does not read


class Link:
    """Without a descriptor it is a link whose other end is gone from the start."""

    def __init__(self, fd: int | None) -> None:
        self._socket = None if fd is None else socket.socket(fileno=fd)
        self._in = bytearray()
        self._out = bytearray()
        if self._socket is not None:
            self._socket.setblocking(False)

    @property
    def open(self) -> bool:
        return self._socket is not None

    def wait(self, seconds: float) -> list[dict[str, Any]]:
        """The messages that came, after at most `seconds`."""
        if self._socket is None:
            time.sleep(seconds)
            return []
        self._push()
        if self._socket is None:
            return []
        select.select([self._socket], [], [], seconds)
        return self._pull()

    def first(self) -> dict[str, Any] | None:
        """The first message, however long it takes; None where the other end is gone without one."""
        while self._socket is not None and b"\n" not in self._in:
            select.select([self._socket], [], [])
            self._fill()
        line, newline, rest = bytes(self._in).partition(b"\n")
        self._in = bytearray(rest)  # what came with it is for the next `wait`
        return json.loads(line) if newline else None

    def say(self, message: dict[str, Any]) -> None:
        if len(self._out) < _KEPT:
            self._out += json.dumps(message, ensure_ascii=False).encode() + b"\n"
        self._push()

    def _push(self) -> None:
        if self._socket is None or not self._out:
            return
        try:
            done = self._socket.send(self._out)
            del self._out[:done]
        except BlockingIOError:
            pass
        except OSError:
            self._close_soon()

    def _fill(self) -> None:
        assert self._socket is not None
        try:
            while data := self._socket.recv(1 << 16):
                self._in += data
            self._close_soon()
        except BlockingIOError:
            pass
        except OSError:
            self._close_soon()

    def _pull(self) -> list[dict[str, Any]]:
        self._fill()
        *lines, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest)
        messages = []
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    messages.append(message)
        return messages

    def _close_soon(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
