import sys
from pathlib import Path

import sweep

trial = sweep.current_trial()
with Path("starts").open("a") as file:
    file.write(f"{trial.number}\n")
trial.report(0, score=float(sys.argv[1]))
