"""Leases among real processes: never two holders, never a lease without one, and several users."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import socket
import stat
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import DeviceError
from sweep.slots import leases as module
from sweep.slots.foreign import strangers
from sweep.slots.leases import Leases, describe, lock_folder

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as a second user")


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path / "locks")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users reach, as pytest's own are not. Its name is not yet taken."""
    made = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip()
    Path(made).chmod(0o755)
    yield Path(made) / "locks"
    subprocess.run(["rm", "-rf", made], check=True)


def fork(body: Callable[[], Any]) -> int:
    """A child that does this and ends; status 1 if it raises."""
    pid = os.fork()
    if pid:
        return pid
    try:
        body()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def ends_well(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def as_nobody(body: Callable[[], None]) -> bool:
    def other() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        body()

    return ends_well(fork(other))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_one_holder_at_a_time(leases: Leases) -> None:
    lease = leases.acquire("cpu-0")
    assert lease is not None and not os.get_inheritable(lease)
    assert leases.acquire("cpu-0") is None
    assert leases.acquire("cpu-1") is not None
    os.close(lease)
    assert leases.acquire("cpu-0") is not None


def test_the_lease_lives_as_long_as_any_copy_of_its_descriptor(leases: Leases) -> None:
    """The acquirer hands it over, as the controller does to a supervisor, and is killed."""
    near, far = socket.socketpair()

    def supervisor() -> None:
        near.close()
        _, descriptors, _, _ = socket.recv_fds(far, 10, 1)
        os.write(far.fileno(), b"have it")
        signal.pause()
        os._exit(len(descriptors))

    def controller() -> None:
        lease = leases.acquire("cpu-0")
        assert lease is not None
        socket.send_fds(near, [b"lease"], [lease])
        signal.pause()

    holding = fork(supervisor)
    acquirer = fork(controller)
    far.close()
    assert near.recv(10) == b"have it"
    kill(acquirer)
    assert leases.acquire("cpu-0") is None
    kill(holding)
    assert leases.acquire("cpu-0") is not None


def test_a_command_that_was_given_the_descriptor_holds_it_alone(leases: Leases) -> None:
    lease = leases.acquire("cpu-0")
    assert lease is not None
    given, other = subprocess.Popen(["sleep", "60"], pass_fds=[lease]), subprocess.Popen(["sleep", "60"])
    try:
        os.close(lease)
        assert leases.acquire("cpu-0") is None
        given.kill()
        given.wait()
        assert leases.acquire("cpu-0") is not None, "the other command never had it"
    finally:
        for process in (given, other):
            process.kill()
            process.wait()


def test_never_two_holders_whoever_is_killed(leases: Leases, tmp_path: Path) -> None:
    """Eight processes take four slots and are killed at random, for three seconds.

    The witness is a record lock on a byte of the slot's own. A process that dies drops it before its flocks: its
    descriptors are closed in the order of their numbers, and flocks go last of all.
    """
    witness = os.open(tmp_path / "witness", os.O_RDWR | os.O_CREAT)
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def work() -> None:
        chance = random.Random(os.getpid())
        while True:
            number = chance.randrange(4)
            lease = leases.acquire(f"cpu-{number}")
            if lease is None:
                os.write(log, b".")
                continue
            try:
                fcntl.lockf(witness, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except OSError:
                os.write(log, b"!")
            describe(lease, {"pid": os.getpid()})
            os.write(log, b"+")
            time.sleep(chance.random() / 200)
            if module._facts(os.pread(lease, 100, 0)) != {"pid": os.getpid()}:
                os.write(log, b"?")
            fcntl.lockf(witness, fcntl.LOCK_UN, 1, number)
            os.close(lease)

    workers = [fork(work) for _ in range(8)]
    kills = 0
    end = time.monotonic() + 3
    try:
        while time.monotonic() < end:
            time.sleep(0.01)
            kill(workers.pop(0))
            kills += 1
            workers.append(fork(work))
    finally:
        for worker in workers:
            kill(worker)
    happened = os.pread(log, 1 << 24, 0)
    os.close(log)
    os.close(witness)
    assert b"!" not in happened, "two processes held a slot at once"
    assert b"?" not in happened, "somebody wrote into the file of a held lease"
    assert happened.count(b"+") > 50 and b"." in happened and kills > 10, "the contest never took place"
    assert all(leases.acquire(f"cpu-{number}") is not None for number in range(4)), "a dead process holds a slot"


def test_somebody_looking_is_waited_for_but_not_for_ever(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    os.close(leases.acquire("cpu-0") or -1)
    onlooker = os.open(leases.folder / "cpu-0", os.O_RDONLY)
    fcntl.flock(onlooker, fcntl.LOCK_SH)
    assert leases.acquire("cpu-0") is None

    def meanwhile(_: float) -> None:
        fcntl.flock(onlooker, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who waits keeps nobody else out
        fcntl.flock(onlooker, fcntl.LOCK_UN)

    monkeypatch.setattr(time, "sleep", meanwhile)
    assert leases.acquire("cpu-0") is not None
    os.close(onlooker)


def test_holder_is_told_only_while_the_lock_is_held(leases: Leases) -> None:
    assert leases.look("cpu-0") is None
    lease = leases.acquire("cpu-0")
    assert lease is not None
    held = leases.look("cpu-0")
    assert held is not None and held.facts == {}
    describe(lease, {"sweep": "a-long-name-that-is-replaced-1", "user": "维"})
    describe(lease, {"sweep": "ocr-3", "user": "维"})
    held = leases.look("cpu-0")
    assert held is not None and held.facts == {"sweep": "ocr-3", "user": "维"}
    os.close(lease)
    assert leases.look("cpu-0") is None
    assert json.loads((leases.folder / "cpu-0").read_bytes())["sweep"] == "ocr-3"
    lease = leases.acquire("cpu-0")
    held = leases.look("cpu-0")
    assert held is not None and held.facts == {}, "what the last holder said is gone"


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[1]", b""])
def test_a_holder_whose_words_make_no_sense_is_still_one(text: bytes, leases: Leases) -> None:
    lease = leases.acquire("cpu-0")
    (leases.folder / "cpu-0").write_bytes(text)
    held = leases.look("cpu-0")
    assert lease is not None and held is not None and held.facts == {}


@pytest.mark.parametrize("mishap", ["deleted", "replaced"])
def test_a_file_that_goes_between_open_and_lock_is_not_trusted(
    mishap: str, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = leases.folder / "cpu-0", module.take_lock
    happened: list[str] = []

    def late(lease: int) -> bool:
        if not happened:
            happened.append(mishap)
            path.unlink()
            if mishap == "replaced":
                path.touch()
        return lock(lease)

    monkeypatch.setattr(module, "take_lock", late)
    lease = leases.acquire("cpu-0")
    assert happened and lease is not None
    assert os.path.samestat(os.fstat(lease), path.stat())
    assert leases.acquire("cpu-0") is None


def test_the_whole_device_and_its_shares_exclude_each_other(leases: Leases) -> None:
    whole = leases.acquire("gpu-a")
    assert whole is not None
    assert leases.acquire("gpu-a.0") is None
    assert leases.acquire("gpu-ab.0") is not None, "another device"
    os.close(whole)
    shares = [leases.acquire("gpu-a.0"), leases.acquire("gpu-a.1")]
    assert None not in shares and leases.acquire("gpu-a") is None
    assert len(leases.of_device("gpu-a")) == 2
    for share in shares:
        os.close(share or -1)
    assert leases.acquire("gpu-a") is not None


def test_whole_and_share_never_both_in_a_race(leases: Leases, tmp_path: Path) -> None:
    """Shares hold a shared record lock while they work, the whole an exclusive one: they must never meet."""
    witness, log = (os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | os.O_APPEND) for name in ("witness", "log"))

    def work(name: str, kind: int) -> None:
        while True:
            lease = leases.acquire(name)
            if lease is not None:
                try:
                    fcntl.lockf(witness, kind | fcntl.LOCK_NB)
                except OSError:
                    os.write(log, b"!")
                os.write(log, name[-1].encode())
                fcntl.lockf(witness, fcntl.LOCK_UN)
                os.close(lease)
            time.sleep(random.random() / 2000)

    kinds = {"gpu-a": fcntl.LOCK_EX, "gpu-a.0": fcntl.LOCK_SH, "gpu-a.1": fcntl.LOCK_SH}
    workers = [fork(lambda name=name, kind=kind: work(name, kind)) for name, kind in kinds.items()]  # type: ignore[misc]
    happened, end = b"", time.monotonic() + 20
    while min(happened.count(turn) for turn in (b"a", b"0", b"1")) < 100 and time.monotonic() < end:
        time.sleep(0.1)
        happened = os.pread(log, 1 << 24, 0)
    for worker in workers:
        kill(worker)
    os.close(log)
    os.close(witness)
    assert b"!" not in happened
    assert all(happened.count(turn) > 10 for turn in (b"a", b"0", b"1")), "one of them never had its turn"


def test_a_folder_that_was_cleaned_away_is_made_again(leases: Leases) -> None:
    leases.folder.rmdir()
    assert leases.acquire("cpu-0") is not None


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_link_in_place_of_a_lock_file_is_refused(link: str, leases: Leases, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.tex"
    victim.write_text("ten years of work")
    getattr(leases.folder / "cpu-0", link)(victim)
    with pytest.raises(OSError) as raised:
        leases.acquire("cpu-0")
    assert raised.value.filename == str(leases.folder / "cpu-0")
    assert victim.read_text() == "ten years of work"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_everybody_may_use_what_is_made_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        leases = Leases(tmp_path / "locks")
        leases.acquire("cpu-0")
    finally:
        os.umask(before)
    assert stat.S_IMODE(leases.folder.stat().st_mode) == 0o1777
    assert stat.S_IMODE((leases.folder / "cpu-0").stat().st_mode) == 0o1666


def test_a_file_that_is_there_is_not_created_again(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    """fs.protected_regular refuses O_CREAT on another user's file in a sticky folder."""
    os.close(leases.acquire("cpu-0") or -1)
    real = os.open
    opened: list[int] = []

    def watched(path: Any, flags: int, *rest: Any) -> int:
        opened.append(flags & os.O_CREAT)
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", watched)
    assert leases.acquire("cpu-0") is not None
    assert opened == [0]


def test_a_lock_file_of_ours_that_others_cannot_open_is_mended(leases: Leases) -> None:
    (leases.folder / "cpu-0").touch(0o600)  # its maker was killed before chmod
    leases.acquire("cpu-0")
    assert stat.S_IMODE((leases.folder / "cpu-0").stat().st_mode) == 0o1666


@as_root
def test_two_users_share_the_machine(shared: Path) -> None:
    ours = Leases(shared)
    lease = ours.acquire("gpu-a")
    assert lease is not None
    describe(lease, {"sweep": "ocr-3", "user": "root"})

    def taken() -> None:
        theirs = Leases(shared)
        assert theirs.acquire("gpu-a") is None
        held = theirs.look("gpu-a")
        assert held is not None and held.facts["sweep"] == "ocr-3"

    def free() -> None:
        theirs = Leases(shared)
        mine = theirs.acquire("gpu-a")
        assert mine is not None
        describe(mine, {"user": "nobody"})
        assert theirs.acquire("gpu-b") is not None

    assert as_nobody(taken)
    os.close(lease)
    assert as_nobody(free)
    assert (shared / "gpu-b").stat().st_uid == NOBODY
    assert ours.acquire("gpu-b") is not None


@as_root
def test_whose_a_process_of_another_user_is_says_the_lock_file(shared: Path) -> None:
    """Its descriptors cannot be seen: the pid that the holder wrote must do."""
    ours = Leases(shared)
    lease = ours.acquire("gpu-a.0")
    assert lease is not None
    trial = subprocess.Popen(["sleep", "60"])

    def told(pids: list[int]) -> bool:
        return as_nobody(lambda: _same(strangers([trial.pid], Leases(shared).of_device("gpu-a")), pids))

    try:
        assert strangers([trial.pid], ours.of_device("gpu-a")) == [trial.pid], "its parent is this very process"
        assert told([trial.pid])
        describe(lease, {"pid": os.getpid()})
        assert told([])
        os.close(lease)
        assert told([trial.pid])
    finally:
        trial.kill()
        trial.wait()
    assert strangers([trial.pid], []) == [], "it has ended"


def _same(found: list[int], expected: list[int]) -> None:
    assert found == expected


@as_root
def test_a_folder_that_keeps_others_out_is_said(shared: Path) -> None:
    shared.mkdir(mode=0o755)

    def locked_out() -> None:
        with pytest.raises(DeviceError, match=r"belongs to root and you may not write to it(.|\n)*SWEEP_LOCK_DIR"):
            Leases(shared)
        with pytest.raises(DeviceError, match=r"cannot make the lock folder .*: Permission denied"):
            Leases(shared / "deeper")

    assert as_nobody(locked_out)


@as_root
def test_another_user_may_be_between_mkdir_and_chmod(shared: Path) -> None:
    shared.mkdir(mode=0o755)

    def finish() -> None:
        time.sleep(0.02)
        shared.chmod(0o1777)

    def begin() -> None:
        assert Leases(shared).acquire("cpu-0") is not None

    finishing = fork(finish)
    assert as_nobody(begin)
    assert ends_well(finishing)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "locks").symlink_to(tmp_path / "real")
    with pytest.raises(DeviceError, match="is not a folder"):
        Leases(tmp_path / "locks")


def test_where_the_locks_are(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert lock_folder({"SWEEP_LOCK_DIR": str(tmp_path / "link")}) == tmp_path / "real", (
        "who names a link means it"
    )
    sticky = Path("/run/lock").is_dir() and Path("/run/lock").stat().st_mode & 0o1002 == 0o1002
    assert lock_folder({}) == (Path("/run/lock/sweep") if sticky else Path("/tmp/sweep-locks"))
