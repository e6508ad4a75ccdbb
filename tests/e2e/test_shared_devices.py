"""`slots_per_device: auto` on a fake GPU whose memory follows the processes on it."""

from __future__ import annotations

from typing import Any

from e2e_kit import Project, wait_for

from sweep.rundir import locked

# takes so many GB of a GPU that has 100, if they are there, until it has been measured
TRAIN = """
    import os, sys, time
    def lives(pid):
        try:
            return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False
    state, mine, need = os.environ["FAKE_NVML_STATE"], os.getpid(), int(sys.argv[1])
    with open(state, "a") as file:
        file.write(f"proc gpu=0 pid={mine} used={1000 * need}\\n")
    before = 0
    for line in open(state):
        words = dict(word.split("=") for word in line.split()[1:])
        if words.get("pid") == str(mine):
            break
        before += int(words["used"]) if "pid" in words and lives(words["pid"]) else 0
    print(os.environ["SWEEP_TRIAL"], os.environ["SWEEP_ATTEMPT"], before // 1000, file=open("said", "a"))
    if before + 1000 * need > 100000:
        sys.exit("RuntimeError: CUDA out of memory")
    usage = os.environ["SWEEP_ATTEMPT_DIR"] + "/usage.jsonl"
    while not os.path.exists(usage) or "device_holders" not in open(usage).read():
        time.sleep(0.02)
    print("acc 1")
"""


def test_trials_share_what_has_room_and_who_does_not_fit_goes_on_alone(project: Project, fake_nvml: Any) -> None:
    fake_nvml.write("gpu uuid=GPU-a name=Fake_H200 total=100000 used=4")
    project.env.update(fake_nvml.env)
    project.write("train.py", TRAIN)
    wishes = [20, 20, 70, 20, 20, 20, 20]
    project.space(
        command="python train.py {x}",
        space={"x": {"type": "int", "low": 1, "high": 100}},
        enqueue=[{"x": wish} for wish in wishes],
        report={"pattern": "acc (?P<acc>.*)"},
        trials=len(wishes),
        devices="gpu",
        slots_per_device="auto",
        fail_fast=1,
    )
    first = project.start("run", "space.yaml", "--json")
    crowded = project.wait_for(lambda: [e for e in project.events("AttemptEnded") if e["crowded"]], "one too many")
    first.kill()
    first.wait()
    project.started.remove(first)
    done = project.sweep("resume", "--json")
    assert done.code == 0, done.err
    assert {trial["state"] for trial in done.json["trials"]} == {"COMPLETE"}
    slots = {(t["number"], a["attempt"]): a["slot"] for t in done.json["trials"] for a in t["attempts"]}
    assert slots[0, 1] == slots[1, 1] == "gpu-a.0", "the first ones ran alone"
    assert {slots[number, 1] for number in range(2, 6)} >= {"gpu-a.0", "gpu-a.1", "gpu-a.2"}
    beside = {
        tuple(line.split()[:2]): int(line.split()[2]) for line in (project.path / "said").read_text().splitlines()
    }
    for event in crowded:
        attempts = done.json["trials"][event["trial"]]["attempts"]
        assert [one["outcome"] for one in attempts] == ["OOM", "COMPLETED"] and attempts[1]["slot"] == "gpu-a"
        assert beside[str(event["trial"]), "2"] == 0
    log = project.log()
    assert "4 trials share a device now: one took 21.0 of 104.9 GB" in log
    assert log.count("4 trials share a device now") == 1, "the next controller knew it"
    assert "3 trials share a device now: memory ran out beside others" in log
    assert "on a device of its own" in project.sweep("why", str(crowded[0]["trial"])).out
    wait_for(lambda: not locked(project.locks / "gpu-a"), "the lease's end")
