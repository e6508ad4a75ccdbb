"""Several devices as one slot: which of the free ones, and what a process on them is given.

To the state machine such a slot is one; its id is made of its members', and so is its device's. It exists as long
as its attempt: each member has a lease and a lock file of its own, and goes back by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from sweep.core.model import JOINT
from sweep.ports import Slot
from sweep.slots import cpu


def neighbours(devices: Sequence[str], number: int, apart: Callable[[str, str], int]) -> list[str]:
    """So many of the devices, near to one another, each beside those before it; where all are alike, the first.

    Grown from each device in turn by whichever is nearest to what there is: of such a group the best.
    """

    def grow(first: str) -> list[str]:
        group = [first]
        while len(group) < number:
            left = [one for one in devices if one not in group]
            group.append(min(left, key=lambda one: sum(apart(one, other) for other in group)))
        return group

    return min(map(grow, devices), key=lambda group: sum(apart(*pair) for pair in combinations(group, 2)))


def together(slots: Sequence[Slot]) -> Slot:
    """One slot of these, in this order: a process sees all devices and may use all cores of their shares."""
    if len(slots) == 1:
        return slots[0]
    threads = sum(slot.threads for slot in slots)
    # an NPU's runtime takes numbers in ascending order only: see ascend.py
    order = sorted(slots, key=lambda slot: slot.index) if slots[0].kind == "npu" else slots
    joined = {name: ",".join(dict.fromkeys(slot.env[name] for slot in order)) for name in slots[0].env}
    return Slot(
        id=JOINT.join(slot.id for slot in slots),
        device=",".join(slot.device for slot in slots),
        kind=slots[0].kind,
        index=slots[0].index,
        name=slots[0].name,
        env={**joined, **cpu.thread_limits(threads)},
        threads=threads,
        memory=sum(slot.memory for slot in slots),
    )
