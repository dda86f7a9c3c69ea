"""What happens to a service, phase by phase, the runs of a task that follows it, and the verdict on each."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError
from airflow_provider_contensis.export.ledger import holdings
from airflow_provider_contensis.export.page import entry_metas
from chaos.harness import Service, TaskInterruptedError, names_check
from chaos.sync.attempt import Task, run_until_killed
from chaos.sync.buckets import connection_lost
from chaos.sync.consumer import TornFeedError
from chaos.sync.oracle import Oracle
from chaos.sync.outcome import Outcome
from chaos.sync.scenario import Happening, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_provider_contensis.export.results import ChangesSummary, PostgresSummary
    from chaos.sync.buckets import Bucket
    from chaos.sync.consumer import ChangeSet, Consumer
    from chaos.sync.scenario import Attempt
    from chaos.sync.tables import TableReader
    from chaos.sync.world import Moment, World

_HEX_DIGITS = 16
_ATTEMPTS_AFTER_FAILURES = 2
_EDITS_BETWEEN_ATTEMPTS = 5
_KEPT_CHANGE_SETS = 2
_DAY = 86_400

_Result: TypeAlias = "ChangesSummary | PostgresSummary"


def marks_deletions(arguments: Mapping[str, Any]) -> bool:
    """Return whether tables mark deleted rows; it is drawn with what only a feed has."""
    return arguments.get("compression") is not None


class History:
    """A service, a task that follows it, and a consumer of its copy."""

    def __init__(
        self,
        world: World,
        folder: Path,
        url: str | None,
        consumer: Consumer | TableReader,
        bucket: Bucket | None,
    ) -> None:
        self._world = world
        self._folder = folder
        self._oracle = Oracle(world)
        self._url = url
        self._bucket = bucket
        self._consumer = consumer
        self._found: list[ChangeSet] = []
        self._runs = 0
        self._begin: Moment = world.moment
        self._results: list[tuple[Task, _Result]] = []
        self._may_swap = False
        self.outcome = Outcome(world.scenario.seed, quirk=world.scenario.quirk)

    def live(self, phase: Phase) -> None:
        """Let a phase happen."""
        for happening in phase.happenings:
            self._world.happen(happening)
        self._world.pass_time(phase.seconds)
        self._world.edit_rate = phase.edit_rate
        task = self._task(phase)
        result = self._run(task, phase)
        self._world.edit_rate = 0.0
        if result is None:
            return
        scenario = self._world.scenario
        # A wrong count, which is a fault, may hide a deletion until the next run.
        disturbed = scenario.faults or scenario.lag or phase.edit_rate or self._world.roles[-1]
        if not disturbed and not self._may_swap:
            _, violations = self._compare(result, may_swap=False)
            self.complain(*violations)
        if phase.is_cleared:
            self._clear(*self._earlier())

    def settle(self) -> None:
        """Let everything settle, and compare the copy with the service."""
        self._world.pass_time(_DAY)
        self._world.settle()
        self._world.pass_time(_DAY)
        calm = Phase(happenings=(), seconds=0, is_guarded=False)
        result = self._run(self._task(calm), calm)
        if result is None and self._world.quirks:
            # What failed must not have done any harm to the copy.
            self.outcome.has_failed = True
            self._world.quirks = ()
            result = self._run(self._task(calm), calm)
        if result is None:
            return
        left, violations = self._compare(result, may_swap=False)
        if left and self._may_swap:
            self.outcome.counts["swaps left to a rotation"] += 1
            unchanged = 0
            while unchanged <= _HEX_DIGITS:  # what one run finds may show another swap to the next rotation
                run = self._run(self._task(calm), calm)
                result = run or result
                unchanged = 0 if run and (run["upserts"] or run["deletes"]) else unchanged + 1
            left, violations = self._compare(result, may_swap=True)
            self.outcome.counts["swaps left to a full refresh"] += left > 0
        self.complain(*violations)
        self._check_ledger()
        full = Phase(happenings=(), seconds=0, is_guarded=False, is_full=True)
        result = self._run(self._task(full), full)
        if result is not None:
            served = self._oracle.served()
            kept = {key: line for key, line in self._consumer.held.items() if key not in served}
            if len(kept) != self._kept(result) or self._consumer.held != served | kept:
                self.complain("after a full refresh, the copy is not what the service has, byte by byte")
            if (result["drift"] or 0) > left and self.outcome.quirk != "no-change-marks":
                self.complain(f"a full refresh reports drift={result['drift']}, but {left} entries differed")
        result = self._run(self._task(calm), calm)
        if result is not None and result["content_types"]:
            self.complain(f"nothing happened, but a run wrote {result['content_types']}")
        self._check_ledger()
        if (late := self._consumer.latecomer()) is not None and late.held != self._consumer.held:
            self.complain("a consumer that started late holds something else than one that did not")

    def _compare(self, result: _Result, *, may_swap: bool) -> tuple[int, list[str]]:
        """Compare the copy with the service after a run."""
        return self._oracle.compare(self._consumer.held, may_swap=may_swap, kept=self._kept(result))

    def _kept(self, result: _Result) -> int:
        """Return how many entries a run has kept, as the service does not confirm that they are gone."""
        return result["unconfirmed"] if "html-404" in self._world.quirks else 0

    def complain(self, *violations: str) -> None:
        """Note violations."""
        named = [f"run {self._runs}: {violation}" for violation in violations]
        self.outcome.violations += [each for each in named if each not in self.outcome.violations]

    def _task(self, phase: Phase) -> Task:
        self._runs += 1
        scenario = self._world.scenario
        arguments: dict[str, Any] = {**scenario.arguments, "full_refresh": phase.is_full}
        if self._url is not None:
            arguments["deletes"] = "mark" if marks_deletions(arguments) else "delete"
            arguments.pop("compression", None)
        else:
            arguments["write_snapshot"] = phase.is_full and self._runs % 2 == 0
            arguments["keep_change_sets"] = _KEPT_CHANGE_SETS
        if not phase.is_guarded:
            arguments["max_delete_share"] = None
        service = Service.of(self._world.sandbox)
        return Task(
            self._runs,
            service,
            self._folder,
            arguments,
            scenario.part_entries,
            scenario.row_limit,
            self._url,
            self._bucket,
        )

    def _run(self, task: Task, phase: Phase) -> _Result | None:
        """Run a task, in as many attempts as it takes; return its result, or None if it failed."""
        self._begin = self._world.moment
        horizon = (self._consumer.index or {}).get("horizon")
        self._may_swap = self._oracle.has_returned(self._consumer.held, horizon)
        self.outcome.counts["runs"] += 1
        self.outcome.counts["full refreshes"] += phase.is_full
        committed = False
        self._found = []
        for attempt in phase.attempts:
            self._begin_attempt()
            ended = self._break_off(task, attempt)
            self.outcome.counts[attempt.end] += ended
            committed = self._observe(phase, is_committed=committed) or committed
            self._world.pass_time(phase.seconds / 10)
            if phase.edit_rate:
                self._world.happen(Happening("edit", _EDITS_BETWEEN_ATTEMPTS))
                self._world.pass_time(phase.seconds / 10)
        for remaining in range(_ATTEMPTS_AFTER_FAILURES, -1, -1):
            self._begin_attempt()
            try:
                with task.before_each_step(self._look):
                    result = task.run(self._world.worker_clock, is_last=not remaining)
            except Exception as error:  # noqa: BLE001  # foreign exceptions are what this looks for
                self._observe(phase, is_committed=True)
                if getattr(error, "retryable", False) and remaining:
                    continue
                self._judge_failure(error, phase)
                return None
            self._judge_result(result, phase, was_committed=committed)
            self._results.append((task, result))
            return result
        raise AssertionError("the last attempt returns")

    def _begin_attempt(self) -> None:
        self._consumer.wait()
        self._before = (self._consumer.content(), dict(self._consumer.held))
        self._seen = {self._before[0]}
        self._world.sandbox.forget_requests()

    def _look(self) -> None:
        """Read the copy as another process might at any moment."""
        try:
            self._seen.add(self._consumer.content())
            self._consumer.check()
        except TornFeedError as error:  # it is not for the product to see
            self.complain(str(error))

    def _break_off(self, task: Task, attempt: Attempt) -> bool:
        """Make an attempt that does not get to its end; return whether it did not."""
        if attempt.end == "connection lost" and self._bucket is not None:
            return self._lose_connection(task, attempt)
        if attempt.end != "interrupted":
            exit_code = run_until_killed(task, attempt, self._world.worker_clock)
            self._consumer.wait()
            if exit_code not in (0, -signal.SIGKILL):
                self.complain(f"an attempt in a process of its own ended with exit code {exit_code}")
            return exit_code != 0
        try:
            with task.before_each_step(self._look):
                task.run(self._world.worker_clock, is_last=False, searches=attempt.at)
        except TaskInterruptedError:
            return True
        except ContensisError:
            pass  # it met a fault first
        except Exception as error:  # noqa: BLE001  # as in the last attempt
            self.complain(f"an attempt failed with a foreign exception, {type(error).__name__}: {error}")
        return False

    def _lose_connection(self, task: Task, attempt: Attempt) -> bool:
        """Make an attempt that loses its connection to the store; return whether it failed."""
        try:
            with connection_lost(attempt.at, arrives=attempt.at % 2 == 0):
                task.run(self._world.worker_clock, is_last=False)
        except ContensisError:
            return True
        except Exception as error:  # noqa: BLE001  # as in the last attempt
            self.complain(f"an attempt failed with a foreign exception, {type(error).__name__}: {error}")
        return False

    def _observe(self, phase: Phase, *, is_committed: bool) -> bool:
        """Look at the copy after an attempt, and judge what it committed; return whether it did.

        :param is_committed: whether nothing may change, as an earlier attempt committed or this one failed.
        """
        content, held = self._before
        self._consumer.check()
        now = self._consumer.content()
        if not self._seen <= {content, now}:
            self.complain("a reader saw a copy that is neither that before the run nor that after it")
        if now == content:
            return False
        if is_committed:
            self.complain("the copy changed after its run was committed, or although the run failed")
        found = self._consumer.catch_up()
        self._found += found
        for change_set in found:
            self.outcome.counts["change sets"] += 1
            self.outcome.counts["upserts"] += len(change_set.upserts)
            self.outcome.counts["deletions"] += len(change_set.deletes)
            self.outcome.counts.update(f"deletions: {reason}" for _, reason in change_set.deletes)
            self.complain(
                *self._oracle.judge(
                    change_set, held, self._begin, self._world.moment, is_guarded=phase.is_guarded
                )
            )
        return True

    def _judge_result(self, result: _Result, phase: Phase, *, was_committed: bool) -> None:
        if was_committed:
            self.outcome.counts["retries of committed runs"] += 1
            if self._observe(phase, is_committed=True) or self._world.sandbox.count():
                self.complain("a run that had been committed did not return its result at once")
        elif not self._observe(phase, is_committed=False):
            self.complain("a run succeeded, but committed nothing")
        self.complain(*self._consumer.contradictions(result, self._found))
        # A run that had been committed touches nothing: what is in its way is left to the next one.
        if not was_committed and (leftovers := self._consumer.leftovers()):
            self.complain(f"a run left {', '.join(leftovers[:3])} behind")

    def _judge_failure(self, error: Exception, phase: Phase) -> None:
        self.outcome.errors[type(error).__name__] += 1
        if not isinstance(error, ContensisError):
            self.complain(f"it failed with a foreign exception, {type(error).__name__}: {error}")
        elif str(error).startswith("Too many deletions"):
            self.outcome.counts["stopped by the guard"] += 1
            if not self._oracle.may_stop(self._consumer.held, self._begin, self._world.moment):
                self.complain(f"it was stopped without a cause: {error}")
        elif isinstance(error, ConfigurationError) and self._world.roles[-1]:
            pass  # it asks for a content type that the API key may not see
        elif not self._world.is_disturbed or (not self._world.scenario.faults and not phase.edit_rate):
            if not self._world.quirks:
                self.complain(f"it failed although nothing was wrong: {error}")
            elif not names_check(error):
                self.complain(f"it failed, and named no check of the doctor: {error}")

    def _clear(self, task: Task, earlier: _Result) -> None:
        """Run a task again that has succeeded: it returns the same, and reads nothing."""
        self._begin_attempt()
        self.outcome.counts["cleared runs"] += 1
        result = task.run(self._world.worker_clock)
        if result != earlier or self._world.sandbox.count() or self._consumer.content() != self._before[0]:
            self.complain(f"cleared run {task.number} returned {result}, and before that {earlier}")

    def _earlier(self) -> tuple[Task, _Result]:
        """Return the last run that succeeded, or the one before it."""
        return self._results[-1 - self._runs % 2 * (len(self._results) > 1)]

    def _check_ledger(self) -> None:
        """Compare the ledger with what the change sets say."""
        entries = [msgspec.Raw(line) for line in self._consumer.held.values()]
        told = holdings(entries, entry_metas(entries, "published"))
        if self._consumer.digests() != {
            key: held.digest for key, held in zip(self._consumer.held, told, strict=True)
        }:
            self.complain("the ledger holds something else than the change sets")
