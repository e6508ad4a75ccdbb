"""From an order to launch to everything that a process needs: its folder, its words, its environment."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep import rundir
from sweep.config import command
from sweep.config.document import Document
from sweep.config.load import warned
from sweep.config.model import SweepConfig
from sweep.config.preflight import shadows
from sweep.core.effects import Launch
from sweep.core.model import Sweep
from sweep.launch.limits import kept_by_kernel
from sweep.ports import Order, Slot
from sweep.rundir import SweepDir

PYTHON_OF = "SWEEP_PYTHON"


class Preparer:
    """Prepares the attempts of one sweep. environ: the controller's own; mlflow: variables for the trial."""

    def __init__(
        self,
        config: SweepConfig,
        sweep: Sweep,
        directory: SweepDir,
        project: Path,
        environ: Mapping[str, str],
        mlflow: Mapping[str, str],
    ) -> None:
        self._config = config
        self._sweep = sweep
        self._directory = directory
        self._cwd = (project / config.cwd).resolve()
        self._environ = environ
        self._mlflow = mlflow
        self._programs: dict[str, str] = {}

    def __call__(self, launch: Launch, slot: Slot, leases: Sequence[int]) -> Order:
        """Makes the folder and `params.json`; closes the leases and raises OSError where that fails."""
        trial = self._sweep.trials[launch.trial]
        paths = self._directory.attempt(launch.trial, launch.attempt)
        try:
            for folder in (paths.path.parent, paths.path):  # not parents=True, which forgets the mode
                folder.mkdir(mode=0o700, exist_ok=True)
            paths.params.write_text(json.dumps(trial.params, ensure_ascii=False), encoding="utf-8")
        except OSError:
            for lease in leases:
                os.close(lease)
            raise
        env = {
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",  # a crash, and the end of one that hangs, leaves its stacks in the output
            **slot.env,
            **self._mlflow,
            **({"MLFLOW_RUN_ID": trial.run_id} if trial.run_id else {}),
            **self._config.env,
            "SWEEP_ID": self._sweep.id,
            "SWEEP_TRIAL": str(launch.trial),
            "SWEEP_ATTEMPT": str(launch.attempt),
            "SWEEP_ATTEMPT_DIR": str(paths.path),
            "SWEEP_PARAMS": str(paths.params),
            "SWEEP_METRICS": "\n".join(self._config.metric),
        }
        return Order(
            trial=launch.trial,
            attempt=launch.attempt,
            directory=paths.path,
            argv=self._argv(trial.params, launch, paths),
            env=env,
            cwd=self._cwd,
            leases=leases,
            slot=slot.id,
            device=slot.device,
            report={"mode": self._config.report.mode, "patterns": self._config.report.patterns},
            keep=self._config.logs.keep,
            limits=limits(self._config),
        )

    def _argv(self, params: Mapping[str, Any], launch: Launch, paths: rundir.AttemptDir) -> list[str]:
        if self._config.objective is not None:
            return [sys.executable, "-m", "sweep.launch.objective", self._config.objective]
        assert self._config.command is not None
        words = command.render(self._config.command, params, extras(self._sweep.id, launch, paths))
        if words[0] not in self._programs:
            self._programs[words[0]] = interpreter(words[0], self._environ)
        return [self._programs[words[0]], *words[1:]]


def limits(config: SweepConfig) -> dict[str, int]:
    """Those of one attempt that the file has, as its supervisor takes them."""
    wanted = {"memory": config.memory, "processes": config.processes}
    return {name: limit for name, limit in wanted.items() if limit is not None}


def doubts(config: SweepConfig, document: Document, project: Path) -> list[str]:
    """Warnings: what is allowed and odd, in the file, in the folder, and on this machine."""
    return [*warned(config, document), *shadows(config, project), *_overseen(config)]


def _overseen(config: SweepConfig) -> list[str]:
    """A warning where the kernel would not keep the limits here."""
    wanted = limits(config)
    if not wanted or kept_by_kernel(wanted):
        return []
    keys = " and ".join(f"`{name}`" for name in wanted)
    return [f"{keys}: no control group may be made here, so each trial's supervisor looks itself, and may be late"]


def sample_command(config: SweepConfig, number: int, params: Mapping[str, Any]) -> list[str]:
    """The words that trial `number` would be run with, as `sweep check` shows them."""
    if config.objective is not None:
        return ["python", "-m", "sweep.launch.objective", config.objective, "--params", json.dumps(dict(params))]
    assert config.command is not None
    directory = SweepDir(Path(rundir.ROOT) / f"{config.name}-1")
    launch = Launch(number, 1, "")
    return command.render(config.command, params, extras(directory.id, launch, directory.attempt(number, 1)))


def extras(sweep: str, launch: Launch, paths: rundir.AttemptDir) -> dict[str, Any]:
    """Values of the names that a command template may use beside the parameters."""
    return {
        "trial": launch.trial,
        "attempt": launch.attempt,
        "attempt_dir": str(paths.path),
        "sweep": sweep,
        "params_file": str(paths.params),
    }


def interpreter(word: str, environ: Mapping[str, str]) -> str:
    """What a bare `python` means: that of an activated environment, else the one that runs sweep.

    Whoever types the path of `.venv/bin/sweep` means its Python as well, whatever else is activated. PYTHON_OF
    carries the answer to a controller that is started without a terminal.
    """
    if word not in ("python", "python3"):
        return word
    if environ.get(PYTHON_OF):
        return environ[PYTHON_OF]
    on_path = shutil.which("sweep", path=environ.get("PATH"))
    typed = on_path is None or Path(on_path) != Path(sys.argv[0])
    if not typed and (environ.get("VIRTUAL_ENV") or environ.get("CONDA_PREFIX")):
        found = shutil.which(word, path=environ.get("PATH"))
        # not samefile(): the Pythons of two environments are often links to one binary
        if found is not None and Path(found).parent != Path(sys.executable).parent:
            return found
    return sys.executable
