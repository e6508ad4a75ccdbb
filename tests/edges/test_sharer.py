"""`slots_per_device: auto`: what an attempt's end says of how many may share its device."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.core.events import AttemptEnded, SweepOpened
from sweep.core.machine import open_sweep
from sweep.core.model import Attempt, Rules, Trial
from sweep.rundir import SweepDir
from sweep.sharing import Sharer


@pytest.mark.parametrize(("over", "crowded"), [("", True), ("memory", False)])
def test_its_own_limit_of_memory_is_nothing_that_others_have_a_part_in(
    tmp_path: Path, over: str, crowded: bool
) -> None:
    sweep = open_sweep(SweepOpened(0.0, "s-1", Rules(("acc",), ("maximize",)), {}))
    for number in (0, 1):
        sweep.trials[number] = Trial(number, {}, attempts=[Attempt(1, f"gpu-a.{number}", "gpu-a")])
        sweep.live.add(number)
    directory = SweepDir(tmp_path)
    paths = directory.attempt(0, 1)
    paths.path.mkdir(parents=True)
    paths.exit.write_text(json.dumps({"limits": {"memory": 4e9, "over": over}}))
    devices: Any = SimpleNamespace(slots=[SimpleNamespace(memory=80e9)], share=lambda number: None)
    sharer = Sharer(sweep, directory, devices, lambda text: None)
    assert sharer.ended(AttemptEnded(9.0, 0, 1, code=1, hint="oom")).crowded is crowded
