"""Whether a device may be used, and if not, why: the same judgement for those who lease and for those who look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sweep.slots.foreign import people
from sweep.slots.provider import Reading

FREE_MEMORY = 0.9  # of a GPU, that must be free; a desktop takes some of the rest
# More memory than an idle GPU has in use, less than the smallest CUDA context takes.
IDLE_MEMORY = 64 << 20
SETTLE = 10.0  # seconds that the memory of an ended attempt may take to come back before anybody is told


class Health(NamedTuple):
    """word: "ok", "foreign" (somebody computes on it without a lease), "quarantined" (memory is in use, and nobody
    is known to use it), "unreadable" or "failed" (until `sweep devices heal`). why: for people."""

    word: str = "ok"
    why: str = ""


OK = Health()


def judge(
    reading: Reading, foreign: Sequence[int], *, alone: bool, free_memory: float | None, fault: str = ""
) -> Health:
    """foreign: who computes on it without a lease. alone: nobody has a lease, so that memory in use is nobody's.

    free_memory: 0 to 1; None is FREE_MEMORY, or all but IDLE_MEMORY where the memory alone could show a stranger.
    fault: why it is out of service.
    """
    if fault:
        return Health("failed", fault)
    if reading.trouble:
        return Health("unreadable", reading.trouble)
    if foreign:
        return Health("foreign", f"{people(foreign)} on it without a lease")
    used, total = (int(reading.numbers.get(name, 0)) for name in ("memory_used", "memory_total"))
    if free_memory is None and reading.pids is None:
        most = float(IDLE_MEMORY)
    else:
        most = total * (1 - (FREE_MEMORY if free_memory is None else free_memory))
    if alone and used > max(most, IDLE_MEMORY):
        return Health("quarantined", f"{used >> 20} MiB of its memory are in use")
    return OK


@dataclass(frozen=True)
class HeldBack:
    """What the file of a free lease says when its device was found unfit.

    since, at: seconds since the epoch, of the first and of the last try in a row. after: who held the slot before.
    """

    why: str
    since: float
    at: float
    after: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        return {"held_back": asdict(self)}

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> HeldBack | None:
        """None where there is no such word, or none that makes sense: every user may write there."""
        match facts.get("held_back"):
            case {
                "why": str(why),
                "since": int() | float() as since,
                "at": int() | float() as at,
                "after": dict(who),
            }:
                return cls(why, since, at, who)
        return None

    @classmethod
    def anew(cls, health: Health, before: Mapping[str, Any], now: float) -> HeldBack:
        """before: what the file said until now: this very word, or who held the slot last."""
        earlier = cls.read(before)
        after = earlier.after if earlier else dict(before)
        why = health.why
        if health.word == "quarantined" and after:
            why += f" and have not come back since {holder_name(after)} ended"
        return cls(why, earlier.since if earlier else now, now, after)

    @property
    def settling(self) -> bool:
        """Whether the last holder ended so lately that its memory may still be on its way back."""
        return bool(self.after) and self.at - self.since < SETTLE


def holder_name(facts: Mapping[str, Any]) -> str:
    """Who holds a lease, in words; `facts` may lack anything."""
    user, sweep, trial = facts.get("user"), facts.get("sweep"), facts.get("trial")
    if sweep is None:
        return f"{facts.get('command') or 'a process'} of {user or 'somebody'}"
    return f"{sweep if trial is None else f'trial {trial} of {sweep}'}{f' ({user})' if user else ''}"
