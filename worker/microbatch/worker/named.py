"""Decides what becomes of each event that a `PartialFailure` names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from microbatch.broker.policy.health import Health
from microbatch.broker.policy.policy import Policy
from microbatch.broker.policy.retry import retry_delay
from microbatch.broker.policy.verdict import Verdict, is_given_up, is_out_of_time, judge, others_succeed
from microbatch.broker.wire.batch import PartialFailure, Reject, RetryLater
from microbatch.broker.wire.in_flight import ClaimedBatch, Part, part_of
from microbatch.broker.wire.run_record import Mode, RunRecord
from microbatch.worker.user_errors import summarize


def of_an_outage(
    batch: ClaimedBatch, partial: PartialFailure, policy: Policy, now_ms: int, *, expired: int = 0
) -> BaseException | str | None:
    """One of the errors that an outage may have caused, if every event of the batch is named; otherwise None.

    `Reject`, `RetryLater` and errors that the settings give up on are not caused by an outage.
    """
    if len(partial.errors) < batch.header.size - expired:
        return None
    late = is_out_of_time(batch.run, policy, now_ms)
    for error in partial.errors.values():
        if isinstance(error, Reject) or (isinstance(error, RetryLater) and not late):
            continue
        if not is_given_up(error, policy):
            return error
    return None


def judge_all(
    batch: ClaimedBatch, then: RunRecord, health: Health, policy: Policy, now_ms: int
) -> Verdict | None:
    """What becomes of a batch all of whose events are named; None if each event goes its own way.

    If other batches succeed, the events are bad; and while retries are left, each event is tried on its own.
    Otherwise there may be an outage, in which no event may die.
    """
    verdict = judge(batch.run, batch.header.size, health, policy, now_ms)
    if verdict is Verdict.BURY or is_out_of_time(batch.run, policy, now_ms):
        return None
    if not health.is_open and (then.failures <= policy.max_retries or others_succeed(batch.run, health)):
        return None
    return verdict


def sort_named(
    batch: ClaimedBatch,
    errors: Mapping[int, BaseException | str],
    then: RunRecord,
    policy: Policy,
    now_ms: int,
    *,
    bury_by_ms: int,
) -> tuple[list[Part], list[tuple[Part, BaseException | str]]]:
    """The parts that are run again, and the parts that are dead, with their errors.

    Each dead batch has one error, so the failed events are grouped by their error. The dead parts are due at
    ``bury_by_ms``, so that this worker can bury them before. If it dies first, they are run once more.
    """
    late = is_out_of_time(batch.run, policy, now_ms)
    retries: dict[float | None, list[int]] = {}
    dead: dict[str, tuple[list[int], BaseException | str]] = {}
    for position, error in sorted(errors.items()):
        if isinstance(error, RetryLater) and not late:
            retries.setdefault(error.seconds, []).append(position)
        elif late or _is_last(then, error, policy):
            reason = error.error if isinstance(error, Reject) else error
            dead.setdefault(summarize(reason), ([], reason))[0].append(position)
        else:
            retries.setdefault(None, []).append(position)
    delay = retry_delay(then.failures, policy)
    again = []
    for seconds, positions in retries.items():
        run = then if seconds is None else replace(then, failures=batch.run.failures, mode=Mode.LATER)
        due_ms = now_ms + int((delay if seconds is None else seconds) * 1000)
        again.append(part_of(batch, positions, run, due_ms))
    return again, [(part_of(batch, positions, then, bury_by_ms), error) for positions, error in dead.values()]


def _is_last(then: RunRecord, error: BaseException | str, policy: Policy) -> bool:
    """Whether an event with this error is not run again."""
    if isinstance(error, Reject) or then.failures > policy.max_retries:
        return True
    return is_given_up(error, policy)
