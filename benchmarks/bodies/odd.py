"""A trial of one kind: healthy in an odd way for so many seconds, or hung for good."""

import subprocess
import sys
import threading
import time

import sweep

SPIN = "import sys, time; end = time.time() + float(sys.argv[1])\nwhile time.time() < end: pass"

kind, seconds = sys.argv[1], float(sys.argv[2])
trial = sweep.current_trial()
until = time.monotonic() + seconds
if kind == "hangs at once":
    threading.Event().wait()
trial.report(1, score=0.5)
if kind == "hangs":
    threading.Event().wait()
if kind == "computes":
    while time.monotonic() < until:
        pass
if kind == "waits for a child":
    subprocess.run([sys.executable, "-c", SPIN, str(seconds)])
step = 1
while time.monotonic() < until:
    time.sleep(1)
    step += 1
    if kind == "prints":
        print("still there", flush=True)
    elif kind == "saves":
        with trial.checkpoint(step):
            pass
    else:
        trial.report(step, score=0.5)
trial.report(step + 1, score=1)
