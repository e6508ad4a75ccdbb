"""Every benchmark, one after another. Leave the machine alone meanwhile."""

from __future__ import annotations

from benchmarks import core, dispatch, report, startup, verdict

startup.main()
report.main()
verdict.main(40)
dispatch.main(3)
core.main()
