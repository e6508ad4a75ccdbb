"""The search as a port: one study, two threads.

Two threads, so that a verdict never waits behind a slow sampler:
-   the sampler thread serves `prefer`, `ask` and `tell`, strictly in the order in which they were given (a seeded
    sweep on one slot sees the same history at each ask, whatever the timing);
-   the judge thread serves `judge`. A `tell` waits for the judgements that were ordered before it.

The study's storage is one of two. By default it is a file in Optuna's own journal format, read by Optuna's own
JournalStorage through `OwnJournal`; the controller's lock makes this process its only writer. A `storage` URL is
used as it is, and may be shared. Either way the sweep's journal is the truth, after which `reconcile` mends
the study.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import TrialState as OptunaState

from sweep.config.model import Constant, SweepConfig
from sweep.config.space import in_order, is_active
from sweep.core import effects as do
from sweep.core import events as e
from sweep.core.model import Sweep, TrialState
from sweep.errors import StorageError
from sweep.lines import no_collector
from sweep.ports import Inbox, Judged
from sweep.search.names import build_pruner, build_sampler, reseed
from sweep.search.space import ask, limit, recorded, sampled, suggest
from sweep.search.storage import OwnJournal

T = TypeVar("T")
log = logging.getLogger("sweep.search")
_OWNER = "sweep"  # user attribute of our trials in a shared study
_RAN_OUT = f"{_CONSTRAINTS_KEY}:oom"  # gigabytes at which memory ran out
_WISHED = "enqueued"  # user attribute of those that hold a configuration of the user's own
# what a database says to one of two that make its tables at the same time
_RACES = ("already exists", "unique constraint", "duplicate", "database is locked")
_PASSWORD = re.compile(r"(?<=://)[^/\s]*@")
_PATIENCE = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between tries of a storage that refuses


class OptunaSearch:
    """One study, two threads. Raises ConfigError or StorageError while it is made, nothing later.

    storage: a path (default storage) or a URL. sweep: the state that the journal tells.
    """

    def __init__(
        self, config: SweepConfig, sweep: Sweep, storage: Path | str, inbox: Inbox, now: Callable[[], float]
    ) -> None:
        self._config = config
        self._id = sweep.id
        self._inbox = inbox
        self._now = now
        self._limit = limit(config)
        self._multi = len(config.metric) > 1
        self._shared = isinstance(storage, str)
        self._backend = None if isinstance(storage, str) else OwnJournal(storage)
        with no_collector():
            self._study = self._open(storage)
        self._ids: dict[int, int] = {}
        self._sampler_tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._judge_tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(tasks,), name=name, daemon=True)
            for name, tasks in (("sampler", self._sampler_tasks), ("judge", self._judge_tasks))
        ]

    def _open(self, storage: Path | str) -> optuna.Study:
        sampler, pruner = build_sampler(self._config, self._config.seed), build_pruner(self._config)
        name = self._config.name if self._shared else self._id
        for patience in (*_PATIENCE[:3], None):
            try:
                place = storage if self._backend is None else optuna.storages.JournalStorage(self._backend)
                study = optuna.create_study(
                    storage=place, study_name=name, directions=self._config.direction,
                    sampler=sampler, pruner=pruner, load_if_exists=True,
                )  # fmt: skip
            except Exception as error:  # drivers raise what they like
                said = str(error).splitlines()[0] if str(error) else repr(error)
                if patience is None or not any(word in said.lower() for word in _RACES):
                    break
                time.sleep(patience)
            else:
                self._check_directions(study)
                return study
        raise StorageError(
            f"the study's storage {_PASSWORD.sub('***@', str(storage))} does not open: {said}",
            hint="check `storage` in the file; leave it out for a file in the sweep's own folder"
            if self._shared
            else "move it away: it is written anew from the sweep's journal",
        )

    def _check_directions(self, study: optuna.Study) -> None:
        """A study that was there already keeps its own, whatever is asked for."""
        theirs = [direction.name.lower() for direction in study.directions]
        if theirs != self._config.direction:
            raise StorageError(
                f"the storage has a study {study.study_name!r} already, and its direction is {', '.join(theirs)}",
                hint="choose another `name`",
            )

    def reconcile(self, sweep: Sweep, judged: Judged) -> list[dict[str, Any]]:
        """Mends the study after the journal, before `start`; returns configurations that the journal had missed.

        judged: asked for the trials whose reports the study may lack: number -> step -> value of the objective.
        """
        known = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        finished = {number for number, theirs in known.items() if theirs.state.is_finished()}
        missed: list[dict[str, Any]] = []
        lacking = [number for number in sorted(sweep.trials) if number not in finished]
        reports = judged(lacking) if lacking else {}
        for number in lacking:
            ours = sweep.trials[number]
            if number in known:
                self._fill_in(known[number], ours.params, reports.get(number, {}))
            elif not self._shared:
                self._study.add_trial(self._rebuilt(ours.params, reports.get(number, {})))
            if ours.state.terminal:
                self._tell(do.Tell(number, ours.state, ours.values, ours.outcome, ours.ran_out))
        for number, theirs in sorted(known.items()):
            if number in sweep.trials or number in finished or not self._ours(theirs):
                continue
            params = self._complete(theirs.params)
            if theirs.state is OptunaState.RUNNING and self._is_whole(params):
                origin = "enqueued" if _WISHED in theirs.user_attrs else "sampler"
                missed.append({"number": number, "params": params, "origin": origin})
            else:  # in Optuna's queue, or half sampled: the machine asks for another
                storage = self._study._storage  # tell() would not take one that is WAITING
                storage.set_trial_state_values(theirs._trial_id, OptunaState.FAIL)
        self._ask_again(sweep)
        return missed

    def _ask_again(self, sweep: Sweep) -> None:
        """The pruner's verdict over the newest report of a trial that runs may have died with a controller."""
        for number in sorted(sweep.live):
            trial, attempt = sweep.trials[number], sweep.trials[number].attempts[-1]
            if attempt.verdict is None and attempt.step is not None and attempt.step == trial.judged:
                self._judge_tasks.put(partial(self._advise, number, attempt.number, attempt.step))

    def _ours(self, trial: optuna.trial.FrozenTrial) -> bool:
        return not self._shared or trial.user_attrs.get(_OWNER) == self._id

    def _fill_in(
        self, theirs: optuna.trial.FrozenTrial, params: Mapping[str, Any], reports: Mapping[int, float]
    ) -> None:
        """What the end of a controller, or of the machine, cut off behind the creation of a trial."""
        storage = self._study._storage
        if theirs.state is OptunaState.WAITING:
            storage.set_trial_state_values(theirs._trial_id, OptunaState.RUNNING)
        for name, kind in recorded(self._config, params).items():
            if name not in theirs.params:
                storage.set_trial_param(theirs._trial_id, name, kind.to_internal_repr(params[name]), kind)
        for step, value in reports.items():
            if step not in theirs.intermediate_values:
                storage.set_trial_intermediate_value(theirs._trial_id, step, value)

    def _rebuilt(self, params: Mapping[str, Any], reports: Mapping[int, float]) -> optuna.trial.FrozenTrial:
        chosen, kinds = sampled(self._config, params), recorded(self._config, params)
        return optuna.trial.create_trial(
            state=OptunaState.RUNNING, params=chosen, distributions=kinds, intermediate_values=dict(reports)
        )

    def _complete(self, sampled: Mapping[str, Any]) -> dict[str, Any]:
        """Sampled parameters with the constants whose conditions hold."""
        chosen = dict(sampled)
        for name in in_order(self._config.space):
            parameter = self._config.space[name]
            if isinstance(parameter, Constant) and is_active(parameter, chosen):
                chosen[name] = parameter.value
        return {name: chosen[name] for name in self._config.space if name in chosen}

    def _is_whole(self, params: Mapping[str, Any]) -> bool:
        return all(name in params or not is_active(one, params) for name, one in self._config.space.items())

    # -- orders, from the controller's thread

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def prefer(self, order: do.Prefer) -> None:
        self._sampler_tasks.put(lambda: self._prefer(order))

    def ask(self) -> None:
        self._sampler_tasks.put(self._ask)

    def judge(self, order: do.Judge) -> None:
        self._judge_tasks.put(lambda: self._judge(order))

    def tell(self, order: do.Tell) -> None:
        judged = threading.Event()
        self._judge_tasks.put(judged.set)

        def tell() -> None:
            judged.wait()
            self._tell(order)

        self._sampler_tasks.put(tell)

    def close(self) -> None:
        """Serves what was ordered, then ends both threads."""
        self._sampler_tasks.put(None)
        self._judge_tasks.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        if self._backend is not None:
            self._backend.close()

    # -- service, in the threads

    def _serve(self, tasks: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (task := tasks.get()) is not None:
            try:
                self._patiently(task)
            except Exception:  # what it left undone is mended by reconcile, at the next resume
                log.exception("the study did not take what it was told")

    def _patiently(self, action: Callable[[], T]) -> T:
        """Does it, again and again while the storage refuses."""
        for patience in _PATIENCE:
            try:
                return action()
            except optuna.exceptions.StorageInternalError as error:
                log.warning("the study's storage fails, trying again: %s", error)
                time.sleep(patience)
        return action()

    def _prefer(self, order: do.Prefer) -> None:
        self._study.enqueue_trial(
            sampled(self._config, order.params), user_attrs={_OWNER: self._id, _WISHED: True}
        )

    def _ask(self) -> None:
        try:
            event = self._patiently(self._sample)
        except Exception as error:
            log.exception("the sampler failed")
            event = e.SamplerExhausted(self._now(), f"the sampler failed: {error}", failed=True)
        self._inbox(event)

    def _sample(self) -> e.Event:
        if self._limit is not None and self._sampled() >= self._limit:
            return e.SamplerExhausted(
                self._now(), f"all {self._limit} configurations of the space have been sampled"
            )
        if self._backend is None:
            trial = self._ask_as_owner()
            params = suggest(trial, self._config)
        else:
            with self._backend.whole():
                trial = ask(self._study, self._config)
                params = suggest(trial, self._config)
        origin = "enqueued" if _WISHED in trial.user_attrs else "sampler"
        return e.TrialSampled(self._now(), trial.number, params, origin)

    def _ask_as_owner(self) -> optuna.Trial:
        """As study.ask() does it, in a study that others use: their wishes are left to them, and a new trial is
        ours from its first moment, so that a crash leaves none that nobody would ever tell.
        """
        study, storage = self._study, self._study._storage
        study._thread_local.cached_all_trials = None
        for wish in study.get_trials(deepcopy=False, states=(OptunaState.WAITING,)):
            owner = wish.user_attrs.get(_OWNER, self._id)  # somebody's optuna-dashboard may have enqueued it
            if owner == self._id and storage.set_trial_state_values(wish._trial_id, OptunaState.RUNNING):
                storage.set_trial_user_attr(wish._trial_id, _OWNER, self._id)
                trial_id = wish._trial_id
                break
        else:
            ours = optuna.trial.create_trial(state=OptunaState.RUNNING, user_attrs={_OWNER: self._id})
            trial_id = storage.create_new_trial(study._study_id, ours)
        reseed(study.sampler, self._config, storage.get_trial_number_from_id(trial_id))
        return optuna.Trial(study, trial_id)

    def _sampled(self) -> int:
        return sum("fixed_params" not in t.system_attrs for t in self._study.get_trials(deepcopy=False))

    def _judge(self, order: do.Judge) -> None:
        trial_id = self._trial_id(order.trial)
        self._study._storage.set_trial_intermediate_value(trial_id, order.step, order.value)
        self._advise(order.trial, order.attempt, order.step)

    def _advise(self, number: int, attempt: int, step: int) -> None:
        if self._config.pruner is None:
            return
        trial = self._study._storage.get_trial(self._trial_id(number))
        if self._study.pruner.prune(self._study, trial):
            self._inbox(e.PruneAdvised(self._now(), number, attempt, step))

    def _tell(self, order: do.Tell) -> None:
        values: Sequence[float] | None = order.values
        state = {
            TrialState.COMPLETE: OptunaState.COMPLETE,
            TrialState.PRUNED: OptunaState.PRUNED,
            TrialState.FAIL: OptunaState.FAIL,
        }[order.state]
        # a pruned trial of several objectives has no last report that Optuna could take for its value
        if state is OptunaState.PRUNED and self._multi:
            state = OptunaState.FAIL
        if order.ran_out is not None and "oom" in self._config.constraints:
            state = self._constrain(order.trial, order.ran_out)
        try:
            self._study.tell(order.trial, values, state=state, skip_if_finished=True)
        except RuntimeError:
            # an exhaustive sampler stops study.optimize() after its last trial, which is told all the same
            if self._limit is None:
                raise
        self._ids.pop(order.trial, None)

    def _constrain(self, number: int, peak: float) -> OptunaState:
        """What Optuna is to hear of a trial that ran out of memory: TPE passes over trials that failed, but puts a
        pruned one whose constraint is above 0 behind all others. It is stored as Trial.set_constraint does it, but
        such a Trial cannot be had of one that was sampled earlier.
        """
        storage, trial_id = self._study._storage, self._trial_id(number)
        if not storage.get_trial(trial_id).state.is_finished():  # by somebody who shares the study
            storage.set_trial_system_attr(trial_id, _RAN_OUT, peak / 1e9 or 1.0)
        return OptunaState.PRUNED

    def _trial_id(self, number: int) -> int:
        """Optuna's own id of a trial; its public calls take numbers, its storage takes ids."""
        if number not in self._ids:
            storage = self._study._storage
            self._ids[number] = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        return self._ids[number]
