"""What somebody with the rights of one role can do, and why it does no harm to the other roles."""

from __future__ import annotations

from pathlib import Path

import pytest

from microbatch.broker.inspect.audit import Audit
from tests.fleet import ECHO, Fleet
from tests.servers import RealServer
from tests.unit.steps import check_account
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("quarantine", "wake")

LAST_ID = "18446744073709551615-18446744073709551615"


def all_well(fleet: Fleet, done: int) -> None:
    check_account(fleet.broker)
    assert fleet.broker.stats.counters().done_events == done
    assert list(Audit(fleet.broker).findings()) == []


def test_a_progress_stream_that_is_used_up_fails_nothing(server: RealServer, tmp_path: Path) -> None:
    """A producer or a consumer may leave the stream in this state: both may write to it."""
    handled: list[int] = []
    with Fleet(server, tmp_path, ECHO, max_size=2) as fleet:
        server.admin.xadd(fleet.broker.keys.progress, {"no": "word"}, id=LAST_ID)
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=handled.extend)
        mb.record_events([1, 2, 3])
        wait_until(lambda: fleet.broker.stats.counters().done_events >= 2, message=fleet.state)
        fleet.finish(mb)
        assert sorted(handled) == [1, 2, 3]
        all_well(fleet, 3)


def test_results_that_have_used_their_last_id_are_quarantined(server: RealServer, tmp_path: Path) -> None:
    """A consumer may leave the stream in this state. A commit that was refused is not counted."""
    handled: list[int] = []
    with Fleet(server, tmp_path, ECHO, max_size=2) as fleet:
        results = fleet.broker.keys.results
        server.admin.xadd(results, {"no": "result"}, id=LAST_ID)
        fleet.worker()
        mb = fleet.batcher(result_handler=handled.extend)
        mb.record_events([1, 2])
        fleet.scheduler()
        fleet.finish(mb)
        assert handled == [1, 2]
        kept = server.admin.scan_iter(fleet.broker.keys.quarantine("results") + "*", _type="stream")
        assert len(list(kept)) == 1
        all_well(fleet, 2)


@pytest.mark.parametrize("stamp", ["-0000000017", "0x000000001", " 0000000017", "fffffffffff", "0000000000z"])
def test_an_event_with_a_strange_time_does_not_spoil_its_batch(
    valkey_server: RealServer, tmp_path: Path, stamp: str
) -> None:
    """A producer may write such an event."""
    handled: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, ECHO, max_size=2) as fleet:
        valkey_server.admin.rpush(fleet.broker.keys.events, f"1{stamp}1")
        fleet.worker()
        mb = fleet.batcher(result_handler=handled.append)
        mb.record_event(2)
        fleet.scheduler()
        fleet.finish(mb)
        assert handled == [[1, 2]]
        all_well(fleet, 2)


@pytest.mark.parametrize("word", ["flush", "size", "nonsense"])
def test_many_wake_up_words_do_not_make_batches_of_one_event(
    valkey_server: RealServer, tmp_path: Path, word: str
) -> None:
    """A producer may write such words."""
    admin = valkey_server.admin
    with Fleet(valkey_server, tmp_path, ECHO, max_size=100, frequency=600_000) as fleet:
        for _ in range(20):
            admin.rpush(fleet.broker.keys.wake, *[word] * 50_000)
        fleet.scheduler()
        wait_until(lambda: not admin.exists(fleet.broker.keys.wake), 20)
        fleet.batcher().record_events(range(99))
        fleet.batcher().record_event(99)
        wait_until(lambda: not fleet.broker.events.waiting())
        assert fleet.broker.stats.counters().cut_batches == 1
        fleet.worker()
        fleet.finish(fleet.batcher(result_handler=len))
