"""Decides what happens to a batch after a failed run."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from microbatch.broker.policy.health import Health
from microbatch.broker.policy.policy import Policy
from microbatch.broker.policy.retry import SUSPECT_WAITS
from microbatch.broker.wire.run_record import Mode, RunRecord


class Verdict(Enum):
    """What happens to a batch after a failed run."""

    RETRY = "retry"
    """It is run again, after a delay."""
    PROBE = "probe"
    """One of its events is run alone, to tell a bad event from an outage."""
    DIVIDE = "divide"
    """Its halves are run separately, to find the events that fail."""
    BURY = "bury"
    """It is dead."""


def judge(run: RunRecord, size: int, health: Health, policy: Policy, now_ms: int) -> Verdict:
    """What happens to a batch of ``size`` events after one of its runs has failed.

    A bad event affects its batch; an outage affects the whole batcher. So a whole batch is halved only if
    something else succeeded since its previous run, or if its time (``retry_for``) is over. Otherwise halving
    it could not isolate anything.

    Args:
        run: the record that the batch had during this run.
        size: how many events the batch holds.
        health: the row of failures that this run is in.
        policy: the batcher's policy.
        now_ms: the server's time.
    """
    if health.is_open:
        return Verdict.BURY if is_out_of_time(run, policy, now_ms) else Verdict.RETRY
    if run.failures + 1 <= policy.max_retries and not is_out_of_time(run, policy, now_ms):
        return Verdict.RETRY
    if others_succeed(run, health) or is_out_of_time(run, policy, now_ms):
        return Verdict.RETRY if _is_new_suspect(run, size) else isolate(size, policy)
    if run.mode in (Mode.ISOLATING, Mode.SUSPECT):
        # An outage may have begun meanwhile. Then these parts are divided in vain, but none dies.
        return isolate(size, policy) if size > 1 or _has_waited(run, policy) else Verdict.RETRY
    if isolate(size, policy) is Verdict.DIVIDE:
        return Verdict.PROBE
    # If no other batch fails, there is nothing to compare it with. If others fail, it may be an outage.
    return Verdict.BURY if health.batches <= 1 else Verdict.RETRY


def others_succeed(run: RunRecord, health: Health) -> bool:
    """Whether something else succeeded since the batch's previous run."""
    return run.runs > 0 and health.done > run.done


def after_failure(run: RunRecord, size: int, health: Health, policy: Policy, now_ms: int) -> RunRecord:
    """The run record of a batch after its present run has failed. A failure in an outage is not charged."""
    mode = run.mode if run.mode in (Mode.ISOLATING, Mode.SUSPECT) else Mode.WHOLE
    then = run.failed(now_ms, charged=not health.is_open, done=health.done, mode=mode)
    if _is_new_suspect(run, size) and not health.is_open:
        return replace(then, failures=policy.max_retries + 1, mode=Mode.SUSPECT)
    return then


def _is_new_suspect(run: RunRecord, size: int) -> bool:
    """Whether a single event that division has isolated failed alone for the first time."""
    return run.mode is Mode.ISOLATING and size == 1


def _has_waited(run: RunRecord, policy: Policy) -> bool:
    """Whether an outage would have shown in other batches by now."""
    return run.mode is Mode.SUSPECT and run.failures - policy.max_retries > SUSPECT_WAITS - 1


def judge_death(run: RunRecord, size: int, policy: Policy) -> Verdict:
    """What happens to a batch of ``size`` events whose worker has just died."""
    return Verdict.RETRY if run.deaths + 1 <= policy.max_worker_deaths else isolate(size, policy)


def isolate(size: int, policy: Policy) -> Verdict:
    """What happens to a batch that fails while others succeed, and is not retried as a whole."""
    return Verdict.DIVIDE if policy.isolate_failures and size > 1 else Verdict.BURY


def is_given_up(error: BaseException | str, policy: Policy) -> bool:
    """Whether the settings exclude this error from retries.

    The settings name classes of errors. A text, which a `PartialFailure` may give for an event, has no class.
    A run that reached its time limit raised nothing itself: what it waited for may be temporarily away.
    Neither is excluded.
    """
    if isinstance(error, str) or _is_time_limit(error):
        return False
    if isinstance(error, policy.give_up_on):
        return True
    return bool(policy.retry_on) and not isinstance(error, policy.retry_on)


def _is_time_limit(error: BaseException) -> bool:
    """Whether RQ raised this at the run's time limit. RQ's module is named here and not imported."""
    return any(kind.__module__ == "rq.timeouts" for kind in type(error).__mro__)


def is_out_of_time(run: RunRecord, policy: Policy, now_ms: int) -> bool:
    """Whether the first failure of a batch that fails now is ``retry_for`` or longer ago."""
    return run.since_ms > 0 and now_ms - run.since_ms >= policy.retry_for * 1000
