"""Trials of every kind: most complete, one in 5 is pruned, one in 7 crashes once. Each start is put on record."""

import os
import sys
import time
from pathlib import Path

import sweep

trial = sweep.current_trial()
x = float(sys.argv[1])
with Path("starts").open("a") as file:
    file.write(f"{trial.number}\n")
first = Path("starts").read_text().split().count(str(trial.number)) == 1
if trial.number % 5 == 4:
    trial.report(0, score=-x)
    time.sleep(60)
    sys.exit("nobody pruned it")
for step in range(2):
    trial.report(step, score=x + step)
    if trial.number % 7 == 3 and first:
        os._exit(1)
    with trial.checkpoint(step):
        pass
