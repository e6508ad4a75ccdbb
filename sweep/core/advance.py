"""What follows from where a sweep stands now: the five things that no event asks for by itself.

In this order: copies of earlier trials end, trials that are ready and have a slot are launched, configurations are
asked for, leases that nobody will need are given back, a sweep with nothing left ends.
"""

from __future__ import annotations

from sweep.core import again
from sweep.core import effects as do
from sweep.core.model import SHARE, Attempt, Sweep, SweepState, Trial, TrialState
from sweep.core.trials import Effects, end_trial, move


def advance(sweep: Sweep, orders: Effects) -> None:
    needed = 0
    if sweep.state is SweepState.RUNNING and not sweep.hold:
        _end_copies(sweep, orders)
        while (
            sweep.offers
            and sweep.spare()
            and sweep.in_line()
            and _runnable(sweep, sweep.ready[0])
            and (slot := _slot_for(sweep, sweep.trials[sweep.ready[0]]))
        ):
            orders.append(_launch(sweep, slot))
        _ask(sweep, orders)
        if sweep.offers and sweep.wants_whole():  # a share that lies idle would keep it from its device
            for share in [slot for slot in sweep.offers if SHARE in slot]:
                del sweep.offers[share]
                orders.append(do.Release(share))
        needed = min(sweep.in_line() + sweep.asking, sweep.spare()) if sweep.offers else 0
    while len(sweep.offers) > needed:
        slot, _ = sweep.offers.popitem()
        orders.append(do.Release(slot))
    if not sweep.state.ended and not sweep.live and not sweep.asking and _nothing_left(sweep):
        _finish(sweep, orders)


def _end_copies(sweep: Sweep, orders: Effects) -> None:
    for trial, original in again.originals(sweep):
        sweep.ready.remove(trial.number)
        orders += end_trial(sweep, trial, TrialState.COMPLETE, original.values, f"same as trial {original.number}")
        sweep.copies += 1
        if sweep.copies >= again.MOST and not sweep.exhausted:
            sweep.exhausted = f"the last {sweep.copies} configurations had all been tried before"
            sweep.why = sweep.why or sweep.exhausted


def _nothing_left(sweep: Sweep) -> bool:
    if sweep.state in (SweepState.DRAINING, SweepState.STOPPING):
        return True
    return not sweep.in_line() and not sweep.resting and not sweep.unsampled()


def _finish(sweep: Sweep, orders: Effects) -> None:
    sweep.ready.extend(sweep.resting)
    sweep.resting.clear()
    for number in [n for n in sweep.ready if sweep.trials[n].attempts]:
        trial = sweep.trials[number]
        sweep.ready.remove(number)
        why = f"{trial.attempts[-1].why}; the sweep ended before another attempt"
        orders += end_trial(sweep, trial, TrialState.FAIL, None, why)
    done = sweep.counts[TrialState.COMPLETE] > 0
    sweep.state = SweepState.FINISHED if done and not sweep.failed else SweepState.FAILED
    sweep.why = sweep.why or ("" if done else _why_none(sweep))
    sweep.endings += 1
    orders.append(do.Finish())


def _why_none(sweep: Sweep) -> str:
    failed = [t for t in sweep.trials.values() if t.state is TrialState.FAIL]
    if not failed:
        pruned = "every one was pruned" if sweep.counts[TrialState.PRUNED] else "none was started"
        return f"no trial completed: {sweep.exhausted or pruned}"
    return f"no trial completed; the last failure, trial {failed[-1].number}: {failed[-1].why}"


def _runnable(sweep: Sweep, number: int) -> bool:
    return not sweep.rules.needs_run or sweep.trials[number].run_id is not None


def _slot_for(sweep: Sweep, trial: Trial) -> str:
    """The longest-offered; for a retry, one on a device that has not failed it yet; empty where none will do."""
    fitting = [slot for slot in sweep.offers if not (trial.alone and SHARE in slot)]
    failed = {device for attempt in trial.attempts for device in attempt.device.split(",")}
    fresh = (slot for slot in fitting if failed.isdisjoint(sweep.offers[slot].split(",")))
    return next(fresh, next(iter(fitting), ""))


def _launch(sweep: Sweep, slot: str) -> do.Launch:
    """The first trial in line."""
    trial = sweep.trials[sweep.ready.popleft()]
    device = sweep.offers.pop(slot)
    sweep.copies = 0
    move(sweep, trial, TrialState.RUNNING)
    attempt = Attempt(len(trial.attempts) + 1, slot, device, launched=sweep.at)
    trial.attempts.append(attempt)
    trial.why = ""
    sweep.live.add(trial.number)
    sweep.held[slot] = trial.number
    return do.Launch(trial.number, attempt.number, slot)


def _ask(sweep: Sweep, orders: Effects) -> None:
    """Enough configurations for every leased slot, and some ahead."""
    usable = min(len(sweep.offers), sweep.spare())
    wanted = usable + sweep.ahead() - len(sweep.ready) - sweep.asking
    if wanted <= 0:
        return
    for _ in range(min(wanted, sweep.unsampled())):
        if len(sweep.queue) > sweep.preferred:
            orders.append(do.Prefer(sweep.queue[sweep.preferred]))
            sweep.preferred += 1
        orders.append(do.Ask())
        sweep.asking += 1
