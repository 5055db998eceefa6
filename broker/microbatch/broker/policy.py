"""The decisions after a failed run: when to try again, and when to stop trying. Pure but for the dice."""

from __future__ import annotations

import random
from dataclasses import replace
from enum import Enum

from microbatch.broker.breaker import Health
from microbatch.broker.config import Config
from microbatch.broker.run_record import Mode, RunRecord

RUN_TTL_MS = 8_000
"""How long a worker may be silent before its batch is run elsewhere."""
_JITTER = 0.25
_SUSPECT_SECONDS = (1.0, 2.0, 4.0, 8.0)
_DOUBLINGS = 64  # more make no difference, and at last no number


class Verdict(Enum):
    """What becomes of a batch whose run has failed."""

    RETRY = "retry"
    """It is run again, after a delay."""
    PROBE = "probe"
    """One of its events is run alone, to tell a bad event from an outage."""
    DIVIDE = "divide"
    """Its halves are run by themselves, to find the events that really fail."""
    BURY = "bury"
    """It is dead."""


def judge(run: RunRecord, size: int, health: Health, config: Config, now_ms: int) -> Verdict:
    """What becomes of a batch of ``size`` events, one run of which has just failed.

    A bad event is a property of its batch, an outage is one of the batcher. A batch is divided only if
    something else succeeded since its run before, because only then division can isolate.

    Args:
        run: the record that it had during this run.
        size: how many events it holds.
        health: the row of failures that this run is in.
        config: the batcher's settings.
        now_ms: the server's time.
    """
    if health.is_open:
        return Verdict.BURY if is_out_of_time(run, config, now_ms) else Verdict.RETRY
    if run.failures + 1 <= config.max_retries and not is_out_of_time(run, config, now_ms):
        return Verdict.RETRY
    if others_succeed(run, health) or is_out_of_time(run, config, now_ms):
        return Verdict.RETRY if _is_new_suspect(run, size) else isolate(size, config)
    if run.mode in (Mode.ISOLATING, Mode.SUSPECT):
        # An outage may have begun meanwhile, which divides these parts in vain but lets none die.
        return isolate(size, config) if size > 1 or _has_waited(run, config) else Verdict.RETRY
    if isolate(size, config) is Verdict.DIVIDE:
        return Verdict.PROBE
    # There is nothing to compare it with if it fails alone. Beside others that fail it may be an outage.
    return Verdict.BURY if health.batches <= 1 else Verdict.RETRY


def others_succeed(run: RunRecord, health: Health) -> bool:
    """Whether something else succeeded since the batch's run before."""
    return run.runs > 0 and health.done > run.done


def after_failure(run: RunRecord, size: int, health: Health, config: Config, now_ms: int) -> RunRecord:
    """The run record of a batch whose present run has failed. A failure in an outage is not charged."""
    mode = run.mode if run.mode in (Mode.ISOLATING, Mode.SUSPECT) else Mode.WHOLE
    then = run.failed(now_ms, charged=not health.is_open, done=health.done, mode=mode)
    if _is_new_suspect(run, size) and not health.is_open:
        return replace(then, failures=config.max_retries + 1, mode=Mode.SUSPECT)
    return then


def _is_new_suspect(run: RunRecord, size: int) -> bool:
    """Whether a single event that division came down to has failed by itself for the first time."""
    return run.mode is Mode.ISOLATING and size == 1


def _has_waited(run: RunRecord, config: Config) -> bool:
    """Whether an outage would have shown in other batches by now."""
    return run.mode is Mode.SUSPECT and run.failures - config.max_retries > len(_SUSPECT_SECONDS) - 1


def judge_death(run: RunRecord, size: int, config: Config) -> Verdict:
    """What becomes of a batch of ``size`` events whose worker has just died."""
    return Verdict.RETRY if run.deaths + 1 <= config.max_worker_deaths else isolate(size, config)


def isolate(size: int, config: Config) -> Verdict:
    """What becomes of a batch that fails while others succeed, and is not tried again whole."""
    return Verdict.DIVIDE if config.isolate_failures and size > 1 else Verdict.BURY


def is_given_up(error: BaseException | str, config: Config) -> bool:
    """Whether the settings say that a run which failed with this error is of no use to repeat.

    They name kinds of errors. A text, as a `PartialFailure` may give for an event, has none. A run that came
    to its time limit has raised nothing of its own: what it waited for may be away.
    """
    if isinstance(error, str) or _is_time_limit(error):
        return False
    if isinstance(error, config.give_up_on):
        return True
    return bool(config.retry_on) and not isinstance(error, config.retry_on)


def _is_time_limit(error: BaseException) -> bool:
    """Whether RQ has raised this in the run, which is named and not imported here."""
    return any(kind.__module__ == "rq.timeouts" for kind in type(error).__mro__)


def is_out_of_time(run: RunRecord, config: Config, now_ms: int) -> bool:
    """Whether a batch that fails now has failed for ``retry_for``."""
    return run.since_ms > 0 and now_ms - run.since_ms >= config.retry_for * 1000


def retry_delay(failure: int, config: Config) -> float:
    """Seconds to wait after the failure number ``failure`` (from 1).

    Doubles with each failure, up to ``max_retry_delay``, and is spread by ± 25 % so that batches that failed
    together do not come back together.
    """
    return _delay(failure, config) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret


def suspect_delay(failures: int, config: Config) -> float:
    """Seconds until a suspect, with so many failures charged, is run again: 15 s in all, if none succeeds.

    The breaker opens within that time in an outage.
    """
    waits = failures - config.max_retries - 1
    return _SUSPECT_SECONDS[min(max(waits, 0), len(_SUSPECT_SECONDS) - 1)]


def longest_retry_delay(config: Config) -> float:
    """The most seconds that any retry waits, unless its processor asked for the time."""
    return max(_delay(_DOUBLINGS, config) * (1 + _JITTER), _SUSPECT_SECONDS[-1])


def _delay(failure: int, config: Config) -> float:
    longest = max(config.max_retry_delay, config.retry_delay)
    return float(min(config.retry_delay * 2.0 ** min(failure - 1, _DOUBLINGS), longest))
