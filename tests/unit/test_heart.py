"""The heart: one beat at a time."""

from __future__ import annotations

import logging
import os
import signal

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Unavailable
from microbatch.worker.heart import BEAT_SECONDS, GRACE_SECONDS, RUN_TTL_MS, Heart
from tests.doubles import ManualClock
from tests.unit.steps import due, record_and_cut, take
from tests.waiting import wait_until


@pytest.fixture
def heart(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Heart:
    """A heart that beats only when it is told to."""
    monkeypatch.setattr("threading.Thread.start", lambda _thread: None)
    return Heart(broker, batch_timeout=300)


def at_hand(heart: Heart) -> object:
    return heart._batch


def test_several_beats_fit_into_the_time_that_a_worker_may_be_silent() -> None:
    assert 3 * BEAT_SECONDS * 1000 < RUN_TTL_MS


def test_a_worker_that_hangs_is_ended_in_time() -> None:
    """Past its time limit, its batch runs elsewhere within 15 seconds, with some for the scheduler."""
    assert GRACE_SECONDS + BEAT_SECONDS / 2 + RUN_TTL_MS / 1000 < 15 - 0.5


def test_a_beat_keeps_the_batch(heart: Heart, broker: Broker, clock: ManualClock) -> None:
    taken = take(broker, record_and_cut(broker, 1))
    clock.advance(7_999)
    heart._renew(taken)
    assert due(broker, clock.ms + RUN_TTL_MS - 1) == []
    assert [batch.id for batch in due(broker, clock.ms + RUN_TTL_MS)] == [taken.id]


def test_it_beats_for_the_batch_at_hand_only(heart: Heart, broker: Broker) -> None:
    taken = take(broker, record_and_cut(broker, 1))
    with heart.beating_for(taken):
        assert at_hand(heart) is taken
    assert at_hand(heart) is None
    with pytest.raises(ZeroDivisionError), heart.beating_for(taken):
        1 / 0  # noqa: B018
    assert at_hand(heart) is None


def test_a_batch_that_was_given_away_is_told(
    heart: Heart, broker: Broker, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    taken = take(broker, record_and_cut(broker, 1))
    clock.advance(60_000)
    take(broker, taken.id, owner="second")
    with heart.beating_for(taken):
        heart._renew(taken)
    assert f"letters: batch {taken.id}: it was given to another worker" in caplog.text


def test_a_beat_that_failed_does_not_end_the_heart(
    heart: Heart, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take(broker, record_and_cut(broker, 1))

    def away(*_arguments: object, **_options: object) -> bool:
        raise Unavailable("no server answers")

    monkeypatch.setattr(broker.ledger, "renew", away)
    for _ in range(3):
        heart._renew(taken)
    assert caplog.text.count(f"letters: batch {taken.id}: no heartbeat: no server answers") == 1


def test_a_run_that_cannot_be_shown_does_not_end_the_heart(
    heart: Heart, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    taken = take(broker, record_and_cut(broker, 1))

    def show(_batch: object) -> None:
        raise TypeError("another release of RQ")

    heart.on_long_run = show
    heart._tell(taken)
    assert f"letters: batch {taken.id}: its run can't be shown" in caplog.text


def test_a_log_that_raises_does_not_end_the_heart(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beats: list[int] = []

    def away(*_arguments: object, **_options: object) -> bool:
        beats.append(1)
        raise Unavailable("no server answers")

    def fail(_record: logging.LogRecord) -> bool:
        raise ZeroDivisionError("the app's own filter")

    monkeypatch.setattr("microbatch.worker.heart.BEAT_SECONDS", 0.01)
    monkeypatch.setattr(broker.ledger, "renew", away)
    logger = logging.getLogger("microbatch.worker.heart")
    logger.addFilter(fail)
    try:
        with Heart(broker, batch_timeout=300).beating_for(take(broker, record_and_cut(broker, 1))):
            wait_until(lambda: len(beats) > 2)
    finally:
        logger.removeFilter(fail)
    assert "the app's own filter" in capsys.readouterr().err


def test_a_run_that_cannot_be_interrupted_ends_its_process(
    heart: Heart, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, sig: killed.append((pid, sig)))
    heart._end_process(take(broker, record_and_cut(broker, 1)))
    assert killed == [(os.getpid(), signal.SIGKILL)]
