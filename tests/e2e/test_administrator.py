"""The administrator's file at its own path, in a mount namespace in which /etc is a copy that has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import pairwise
from typing import Any

import pytest
from e2e_kit import Project, Result

TRAIN = """
    import os, time
    with open("turns", "a") as file:
        file.write(f"{os.environ['CUDA_VISIBLE_DEVICES'][4]} {time.monotonic()} ")
        time.sleep(0.3)
        file.write(f"{time.monotonic()}\\n")
    print("acc 1")
"""


def under_policy(project: Project, *words: str, **env: str) -> Result:
    script = f'mount --bind {project.path / "etc"} /etc && exec "$@"'
    return project.sweep(*words, env=env, through=("unshare", "--mount", "sh", "-c", script, "sh"))


@pytest.fixture
def governed(project: Project, fake_nvml: Any) -> Project:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount")
    shutil.copytree("/etc", project.path / "etc", symlinks=True, ignore_dangling_symlinks=True)
    project.write(
        "etc/sweep/policy.yaml",
        f"""
        lock_dir: {project.locks}
        rules:
          - users: [root]
            devices: [0, 1]
            count: 1
        """,
    )
    fake_nvml.write(*(f"gpu uuid=GPU-{letter * 8}-0 name=Fake_H100" for letter in "abc"))
    project.env |= fake_nvml.env
    project.write("train.py", TRAIN)
    return project


def test_a_user_gets_what_the_policy_allows_and_is_told_of_what_it_does_not(governed: Project) -> None:
    governed.space(trials=3, devices="gpu", report={"pattern": r"acc (?P<acc>\d+)"})
    allowed = "by /etc/sweep/policy.yaml only 0 or 1; 1 device at once"
    checked = under_policy(governed, "check", "space.yaml", "--json").json
    assert checked["slots"] == ["gpu-aaaaaaaa-0", "gpu-bbbbbbbb-0"] and allowed in checked["said"]
    done = under_policy(governed, "run", "space.yaml", "--json")
    assert done.code == 0 and done.json["counts"]["COMPLETE"] == 3, done.err
    turns = [line.split() for line in (governed.path / "turns").read_text().splitlines()]
    assert {turn[0] for turn in turns} <= set("ab")
    times = sorted((float(begun), float(ended)) for _, begun, ended in turns)
    assert all(one[1] <= other[0] for one, other in pairwise(times)), "one at once"

    told = under_policy(governed, "devices", "--json").json
    assert told["policy"] == allowed and [one["health"] for one in told["devices"]] == ["ok", "ok", "hidden"]
    assert told["devices"][2]["why"] == "/etc/sweep/policy.yaml keeps it from you"
    for words, said in (
        (("exec", "--devices", "[2]", "--", "true"), "gives you no GPU 2: by /etc/sweep/policy.yaml only 0 or 1"),
        (("exec", "--devices", "2", "--", "true"), "2 devices at once wanted, but you may have 1"),
        (("submit", "--devices", "cpu", "--", "true"), "gives you no CPU share"),
    ):
        refused = under_policy(governed, *words)
        assert refused.code == 2 and said in refused.err
    moved = under_policy(governed, "run", "space.yaml", SWEEP_LOCK_DIR=str(governed.path / "mine"))
    assert moved.code == 2 and "leases are counted in" in moved.err


def test_in_quiet_hours_exec_says_until_when_it_waits(governed: Project) -> None:
    governed.write("etc/sweep/policy.yaml", f"{{lock_dir: {governed.locks}, rules: [{{quiet: ['0:00-0:00']}}]}}")
    script = f'mount --bind {governed.path / "etc"} /etc && exec timeout 3 "$@"'
    waiting = governed.start("exec", "--", "true", through=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert "nothing is started until 00:00 (/etc/sweep/policy.yaml)" in governed.end(waiting).err
