"""A report every 10 ms, pruned at step 5: how many steps too many, how soon the verdict lies there.

python -m benchmarks.verdict [trials]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.sweeps import ROOT, run
from sweep.core import events as e

SPACE = """
name: verdict
command: python {body} {{x}}
metric: score
direction: maximize
space: {{x: {{type: float, low: 0, high: 1}}}}
pruner: {{name: threshold, lower: 0}}
trials: {trials}
devices: cpu:2
mlflow: false
fail_fast: false
"""


def main(trials: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        timed = run(Path(name), SPACE.format(body=ROOT / "bodies" / "ticking.py", trials=trials))
    sent = {
        event.trial: event.metrics["sent"]
        for event in timed.events
        if isinstance(event, e.Reported) and event.step == 5
    }
    last = {event.trial: event.step for event in timed.events if isinstance(event, e.Reported)}
    advised = [event for event in timed.events if isinstance(event, e.PruneAdvised)]
    took = [(event.at - sent[event.trial]) * 1e3 for event in advised]
    # the report that meets the verdict is written before it is met: step 6 is the first that can
    extra = [step - 6 for step in last.values()]
    print(f"{len(took)} of {trials} trials pruned")
    print(f"  steps too many: median {statistics.median(extra):g}, most {max(extra)}")
    print(f"  report to verdict: median {statistics.median(took):.2f} ms, most {max(took):.2f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
