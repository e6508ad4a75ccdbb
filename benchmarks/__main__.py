"""Every benchmark that times, one after another, or the one that is named. Leave the machine alone meanwhile.

python -m benchmarks [NAME [options]]

`kills`, `stalls` and `contest` prove rather than time, and take half an hour, five and two minutes: by their names
only; so does `pool`, which needs a C compiler.
"""

from __future__ import annotations

import runpy
import sys

from benchmarks import core, dispatch, load, report, resume, startup, verdict

if len(sys.argv) > 1:
    name = sys.argv.pop(1)
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    sys.exit()
startup.main()
report.main()
verdict.main(40)
dispatch.main(3)
core.main()
load.main()
resume.main()
