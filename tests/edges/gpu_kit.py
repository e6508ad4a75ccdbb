"""A Python elsewhere that has fake GPUs: the loader reads LD_LIBRARY_PATH only when a process starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

A, B, C = (f"gpu uuid=GPU-{letter * 8}-0 name=Fake_H100 total=80000" for letter in "abc")
GPU_A, GPU_B = "GPU-aaaaaaaa-0", "GPU-bbbbbbbb-0"

SERVER = """
import dataclasses, json, os, sys
from pathlib import Path
from sweep.config.model import Devices
from sweep.slots import pool
from sweep.slots.opening import open_pool
from sweep.slots.survey import Survey
def foreign(gpu):
    return next(one.foreign for one in Survey(environ, locks).look() if one.device.id == gpu)
for line in sys.stdin:
    order, names = json.loads(line), globals()
    try:
        if order["kind"] == "run":
            exec(order["text"], names)
            answer = None
        else:
            answer = eval(order["text"], names)
        reply = {"answer": answer}
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply, default=dataclasses.asdict), flush=True)
"""


class Remote:
    """A Python elsewhere: calling it evaluates an expression there, `run` executes statements."""

    def __init__(self, env: dict[str, str], prefix: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )

    def __call__(self, expression: str) -> Any:
        return self._send("ask", expression)

    def run(self, statements: str) -> None:
        self._send("run", statements)

    def _send(self, kind: str, text: str) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"kind": kind, "text": text}) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["answer"]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
