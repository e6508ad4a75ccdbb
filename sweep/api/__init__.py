"""Sweeps from Python, for notebooks and scripts: `import sweep` hands these out as `sweep.run` and so on.

A sweep is driven by a controller process of its own, as with `sweep run -d`: it outlives the kernel, and a handle
only reads its journal and leaves it orders.
"""

from sweep.api.handle import Sweep, load
from sweep.api.record import TrialRecord
from sweep.api.space import Space
from sweep.api.start import run

__all__ = ["Space", "Sweep", "TrialRecord", "load", "run"]
