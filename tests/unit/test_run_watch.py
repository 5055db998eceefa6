"""The run watch and the heartbeat, one beat at a time."""

from __future__ import annotations

import logging
import os
import signal
import time
from types import SimpleNamespace

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Unavailable
from microbatch.broker.policy.timing import Timing
from microbatch.broker.process.loop import Loop
from microbatch.broker.state.claims import RqPlace
from microbatch.broker.state.due import queued, running
from microbatch.broker.state.wake import Wake
from microbatch.broker.wire.in_flight import Claim, ClaimedBatch
from microbatch.broker.wire.run_record import RunRecord
from microbatch.worker import run_watch as run_watch_module
from microbatch.worker.run_watch import RunWatch
from microbatch.worker.slot import Slot
from tests.doubles import ManualClock
from tests.times import retime
from tests.unit.steps import claim, client_of, record_and_cut
from tests.waiting import wait_until

RQ = RqPlace("rq:queue:mb:letters", "rq:job:")
RUN_TTL_MS = Timing.run_ttl_ms


@pytest.fixture
def run_watch(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> RunWatch:
    """A run watch that beats only when it is told to, and then for every claim."""
    monkeypatch.setattr(Loop, "start", lambda _loop: None)
    retime(broker, beat_seconds=0.0)
    return RunWatch(broker, batch_timeout=300)


def claimed(run_watch: RunWatch, broker: Broker, owner: str = "worker") -> ClaimedBatch:
    """A batch that its worker has claimed until 8 s from now."""
    now_ms = broker.clock.now_ms()
    run_watch.claiming(Claim(owner, now_ms, now_ms + RUN_TTL_MS))
    return claim(broker, record_and_cut(broker, 1, 2), owner=owner)


def is_due_at(broker: Broker, batch: ClaimedBatch, ms: int) -> bool:
    """Whether the scheduler takes the batch's worker for dead exactly from that moment on."""
    return [silent_at(broker, at) for at in (ms - 1, ms)] == [[], [batch.id]]


def silent_at(broker: Broker, ms: int) -> list[str]:
    """The batches whose workers the scheduler takes for dead at that moment."""
    return ids_between(broker, "-inf", running(ms))


def without_a_job_at(broker: Broker, ms: int) -> list[str]:
    """The batches that wait for a worker, and whose jobs the scheduler looks for at that moment."""
    return ids_between(broker, queued(0), queued(ms))


def ids_between(broker: Broker, lowest: int | str, highest: int) -> list[str]:
    ids: list[bytes] = client_of(broker).zrangebyscore(broker.keys.inflight, lowest, highest)
    return [raw.decode() for raw in ids]


def test_several_beats_fit_into_the_time_that_a_worker_may_be_silent() -> None:
    assert 3 * Timing.beat_seconds * 1000 < RUN_TTL_MS


def test_a_worker_that_hangs_is_ended_in_time() -> None:
    """Past its time limit, its batch runs elsewhere within 15 seconds, with time for the scheduler."""
    assert Timing.overrun_seconds + Timing.beat_seconds / 2 + RUN_TTL_MS / 1000 < 15 - 0.5


def test_a_beat_keeps_what_is_claimed_also_while_it_is_read(
    run_watch: RunWatch, broker: Broker, clock: ManualClock
) -> None:
    """The worker knows only of its claim, not yet of a batch."""
    batch = claimed(run_watch, broker)
    for _ in range(3):
        clock.advance(RUN_TTL_MS - 1)
        run_watch.heartbeat.once()
        assert is_due_at(broker, batch, clock.ms + RUN_TTL_MS)


def test_a_beat_keeps_a_batch_whose_due_time_another_has_changed(
    run_watch: RunWatch, broker: Broker, clock: ManualClock
) -> None:
    """The scheduler does this when the server's clock was set back."""
    batch = claimed(run_watch, broker)
    client_of(broker).zincrby(broker.keys.inflight, -3_600_000, batch.id)
    clock.advance(-3_600_000)
    run_watch.heartbeat.once()
    assert is_due_at(broker, batch, clock.ms + RUN_TTL_MS)


def test_it_beats_for_the_run_at_hand_only(run_watch: RunWatch, broker: Broker, clock: ManualClock) -> None:
    batch = claimed(run_watch, broker)
    due_ms = clock.ms + RUN_TTL_MS
    clock.advance(1_000)
    with pytest.raises(ZeroDivisionError), run_watch.beating_for(batch):
        1 / 0  # noqa: B018
    run_watch.heartbeat.once()
    assert is_due_at(broker, batch, due_ms)


def test_it_beats_for_the_next_claim_while_the_run_before_is_committed(
    run_watch: RunWatch, broker: Broker, clock: ManualClock
) -> None:
    first = claimed(run_watch, broker, "first")
    with run_watch.beating_for(first):
        second = claimed(run_watch, broker, "second")
        clock.advance(1_000)
        run_watch.heartbeat.once()
    assert silent_at(broker, clock.ms + RUN_TTL_MS - 1) == []
    assert sorted(silent_at(broker, clock.ms + RUN_TTL_MS)) == sorted([first.id, second.id])


def test_a_claim_that_found_nothing_costs_no_beat(
    run_watch: RunWatch, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_watch.claiming(Claim("worker", 0, 8_000))
    run_watch.claimed_nothing()
    monkeypatch.setattr(broker.claims, "find", None)
    run_watch.heartbeat.once()


def test_a_batch_that_was_given_away_is_told_once(
    run_watch: RunWatch, broker: Broker, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    batch = claimed(run_watch, broker)
    with run_watch.beating_for(batch):
        run_watch.heartbeat.once()
        clock.advance(60_000)
        claim(broker, batch.id, owner="second")
        for _ in range(3):
            run_watch.heartbeat.once()
    assert caplog.text.count(f"letters: batch {batch.id}: it was given to another worker") == 1
    assert is_due_at(broker, batch, clock.ms + RUN_TTL_MS)  # the time of the other's claim


def test_a_beat_that_failed_is_told_once_and_does_not_end_the_heart(
    run_watch: RunWatch, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: object, **_options: object) -> bool:
        raise Unavailable("no server answers")

    claimed(run_watch, broker)
    with monkeypatch.context() as patch:
        patch.setattr(broker.claims, "find", away)
        for _ in range(3):
            run_watch.heartbeat.once()
    assert caplog.text.count("letters: no heartbeat for worker: no server answers") == 1


def test_a_run_that_cannot_be_shown_does_not_end_the_heart(
    run_watch: RunWatch, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    batch = claimed(run_watch, broker)

    def show(_batch: object) -> None:
        raise TypeError("another release of RQ")

    run_watch.on_long_run = show
    run_watch._tell(batch)
    assert f"letters: batch {batch.id}: its run can't be shown" in caplog.text


def test_a_log_that_raises_does_not_end_the_heart(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beats: list[int] = []

    def away(*_arguments: object, **_options: object) -> bool:
        beats.append(1)
        beating.heartbeat._missed = False
        raise Unavailable("no server answers")

    def fail(_record: logging.LogRecord) -> bool:
        raise ZeroDivisionError("the app's own filter")

    retime(broker, beat_seconds=0.01)
    monkeypatch.setattr(broker.claims, "find", away)
    logger = logging.getLogger("microbatch.worker.heartbeat")
    logger.addFilter(fail)
    beating = RunWatch(broker, batch_timeout=300)
    try:
        claimed(beating, broker)
        wait_until(lambda: len(beats) > 2)
    finally:
        beating.claimed_nothing()
        beating.close()  # before the output that it writes to is closed
        logger.removeFilter(fail)
    assert "the app's own filter" in capsys.readouterr().err


def test_a_run_that_cannot_be_interrupted_ends_its_process_with_no_further_beat(
    broker: Broker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(Loop, "start", lambda _loop: None)
    monkeypatch.setattr(
        run_watch_module, "os", SimpleNamespace(getpid=os.getpid, kill=lambda *call: killed.append(call))
    )
    run_watch = RunWatch(broker, batch_timeout=-10)
    batch = claimed(run_watch, broker)
    with run_watch.beating_for(batch):
        run_watch._once()
        assert killed == [(os.getpid(), signal.SIGKILL)]
        run_watch.processed()
        run_watch._once()
    assert len(killed) == 1
    assert is_due_at(broker, batch, clock.ms + RUN_TTL_MS)


def test_where_a_pool_beats_the_worker_does_not(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "start", lambda _loop: None)
    monkeypatch.setattr(run_watch_module, "os", None)
    monkeypatch.setattr(broker.claims, "find", None)
    slot = Slot()
    run_watch = RunWatch(broker, batch_timeout=-10, slot=slot)
    run_watch.describe(RQ)
    batch = claimed(run_watch, broker)
    with run_watch.beating_for(batch):
        run_watch._once()
        (noted,) = slot.claims()
    assert noted.owner == "worker"
    assert noted.limit_at < time.monotonic()
    about = slot.description()
    assert about is not None
    assert (about.name, about.queue, about.ttl_ms) == ("letters", RQ.queue, RUN_TTL_MS)


@pytest.mark.parametrize("has_job", [True, False])
def test_what_is_given_back_waits_for_a_worker_as_before(
    run_watch: RunWatch, broker: Broker, clock: ManualClock, has_job: bool
) -> None:
    client = client_of(broker)
    batch = claimed(run_watch, broker)
    client.rpush(RQ.queue, "another")
    if has_job:
        client.hset(f"rq:job:{batch.id}", "status", "started")
    run_watch.heartbeat.give_back(RQ, 5)
    assert RunRecord.decode(client.lindex(broker.keys.batch(batch.id), 1)) == RunRecord()
    if has_job:
        assert client.lrange(RQ.queue, 0, -1) == [batch.id.encode(), b"another"]
        assert client.hget(f"rq:job:{batch.id}", "status") == b"queued"
        assert without_a_job_at(broker, clock.ms) == []
        assert without_a_job_at(broker, clock.ms + RUN_TTL_MS) == [batch.id]
    else:
        assert without_a_job_at(broker, clock.ms) == [batch.id]
        assert client.lrange(broker.keys.wake, 0, -1) == [Wake.RECONCILE.encode()]


def test_what_another_has_taken_is_not_given_back(
    run_watch: RunWatch, broker: Broker, clock: ManualClock
) -> None:
    batch = claimed(run_watch, broker)
    run_watch.heartbeat.once()
    clock.advance(60_000)
    claim(broker, batch.id, owner="second")
    run_watch.heartbeat.give_back(RQ, 5)
    assert client_of(broker).lindex(broker.keys.batch(batch.id), 1).endswith(b" second")
