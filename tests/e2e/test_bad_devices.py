"""Devices that fail, and strangers on a device: trials go on elsewhere, and every sweep knows."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from e2e_kit import Project

GPUS = [f"gpu uuid=GPU-{letter * 8}-0 name=Fake_H100" for letter in "abcd"]


@pytest.fixture
def machine(project: Project, fake_nvml: Any) -> Project:
    fake_nvml.write(*GPUS)
    project.env |= fake_nvml.env
    return project


BROKEN = """
    import os, sys, time
    said = os.open("failed", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    if "GPU-a" in os.environ["CUDA_VISIBLE_DEVICES"] and not os.path.exists("mended"):
        os.write(said, b".")
        sys.exit("CUDA error: unspecified launch failure")
    while os.fstat(said).st_size < float(sys.argv[1]):
        time.sleep(0.05)
    print("acc 1")
    """


def test_a_device_on_which_everything_fails_is_taken_out_until_it_is_healed(machine: Project) -> None:
    machine.write("train.py", BROKEN)
    keys = {"devices": "gpu", "report": {"pattern": r"acc (?P<acc>\d+)"}}
    found = machine.run(trials=9, command="python train.py 5", **keys)
    outcomes = [[attempt["outcome"] for attempt in trial["attempts"]] for trial in found["trials"]]
    assert sorted(map(tuple, outcomes)) == [*[("COMPLETED",)] * 4, *[("CRASHED",)] * 4, ("LOST", "COMPLETED")]
    (note,) = [line for line in machine.log().splitlines() if "is taken out of service" in line]
    assert "GPU-aaaaaaaa-0" in note and "5 trials failed on it one after another" in note

    told = machine.sweep("devices", "--json").json["devices"][0]
    assert (told["health"], told["uuid"]) == ("failed", "GPU-aaaaaaaa-0") and "5 trials failed" in told["why"]
    found = machine.run(trials=2, name="t", devices="gpu:2", report=keys["report"])
    assert {attempt["device"][4] for trial in found["trials"] for attempt in trial["attempts"]} <= set("bcd")

    wrong = machine.sweep("devices", "heal", "9")
    assert wrong.code == 2 and "9: no such device" in wrong.err
    assert machine.sweep("devices", "heal", "1").out == "1 is in service\n"
    healed = machine.sweep("devices", "heal", "0")
    assert healed.out.startswith("GPU-aaaaaaaa-0 (Fake H100) is in service again; it was out of service since")
    assert machine.sweep("devices", "heal", "--json").json == {"healed": []}
    machine.write("mended", "")
    assert machine.run(trials=1, name="u", devices=[0], report=keys["report"])["counts"]["COMPLETE"] == 1


def test_of_two_gpus_the_broken_one_is_found_before_fail_fast_gives_the_sweep_up(
    machine: Project, fake_nvml: Any
) -> None:
    fake_nvml.write(*GPUS[:2])
    machine.write("train.py", BROKEN)
    keys = {"devices": "gpu", "report": {"pattern": r"acc (?P<acc>\d+)"}}
    found = machine.run(trials=9, command="python train.py 7", **keys)
    outcomes = [tuple(attempt["outcome"] for attempt in trial["attempts"]) for trial in found["trials"]]
    assert sorted(outcomes) == [("COMPLETED",)] * 2 + [("CRASHED",)] * 6 + [("LOST", "COMPLETED")]
    assert machine.sweep("devices", "--json").json["devices"][0]["health"] == "failed"


def test_a_device_that_has_failed_is_the_last_choice(machine: Project, fake_nvml: Any) -> None:
    fake_nvml.write(*GPUS[:2])
    machine.write("train.py", BROKEN)
    pattern = {"pattern": r"acc (?P<acc>\d+)"}
    found = machine.run(trials=4, slots=1, command="python train.py 1", devices="gpu", report=pattern)
    assert [trial["state"] for trial in found["trials"]] == ["FAIL", *["COMPLETE"] * 3]


def test_an_xid_takes_the_device_from_the_trial_and_charges_nothing(machine: Project, fake_nvml: Any) -> None:
    machine.write(
        "train.py",
        """
        import os, pathlib, sys, time
        if "GPU-a" in os.environ["CUDA_VISIBLE_DEVICES"]:
            pathlib.Path("began").touch()
            while not os.path.exists("struck"):
                time.sleep(0.05)
            sys.exit("CUDA error: uncorrectable ECC error encountered")
        print("acc 1")
        """,
    )
    machine.space(trials=1, devices="gpu", report={"pattern": r"acc (?P<acc>\d+)"})
    running = machine.start("run", "space.yaml", "--json")
    machine.wait_for((machine.path / "began").exists, "the trial")
    fake_nvml.write(*GPUS, "xid gpu=0 code=95")
    machine.write("struck", "")
    (trial,) = machine.end(running).json["trials"]
    assert [attempt["outcome"] for attempt in trial["attempts"]] == ["LOST", "COMPLETED"]
    assert "an error of its memory could not be corrected, nor contained (Xid 95)" in machine.sweep("why", "0").out
    assert machine.sweep("devices", "--json").json["devices"][0]["health"] == "failed"
    assert machine.sweep("devices", "heal").out.startswith("GPU-aaaaaaaa-0 (Fake H100) is in service again")


def test_a_trial_makes_room_for_a_stranger_and_goes_on_elsewhere_from_its_checkpoint(
    machine: Project, fake_nvml: Any
) -> None:
    machine.write(
        "train.py",
        """
        import os, time, sweep
        trial = sweep.current_trial()
        start = trial.resume()
        first = int(open(f"{start}/step").read()) + 1 if start else 0
        here = os.environ["CUDA_VISIBLE_DEVICES"]
        for step in range(first, 10000):
            trial.report(step, acc=1)
            with trial.checkpoint(step) as folder:
                print(step, file=open(f"{folder}/step", "w"))
            if step > first + 10 and "GPU-a" not in here:
                break
            time.sleep(0.05)
        """,
    )
    machine.space(trials=1, devices={"kind": "gpu", "yield": "checkpoint"}, stall={"after": 4}, grace=10)
    running = machine.start("run", "space.yaml", "--json")
    machine.wait_for(lambda: machine.events("Checkpointed"), "a first checkpoint")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        fake_nvml.write(*GPUS, f"proc gpu=0 pid={stranger.pid}")
        done = machine.end(running)
    finally:
        stranger.kill()
        stranger.wait()
    (trial,) = done.json["trials"]
    first, second = trial["attempts"]
    assert (first["outcome"], second["outcome"], trial["state"]) == ("LOST", "COMPLETED", "COMPLETE")
    assert first["device"] == "GPU-aaaaaaaa-0" != second["device"]
    steps = [event["step"] for event in machine.events("Reported")]
    assert steps == sorted(set(steps)), "it went on from where it was"
    why = machine.sweep("why", "0").out
    assert f"told to leave its device: GPU-aaaaaaaa-0: process {stranger.pid} of" in why
