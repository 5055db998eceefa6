"""Events of both versions in one list: they run, die, are shown and are replayed alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.inspect.audit import Audit
from microbatch.broker.inspect.snapshot import take_snapshot
from microbatch.broker.wire.batch import moment
from microbatch.broker.wire.event import Event, encode_event
from microbatch.broker.wire.fields import Tag
from microbatch.ops.dead import whole_as_json
from microbatch.producer import BatchFailure
from tests.fleet import Fleet
from tests.servers import RealServer

AT_MS = 1_700_000_000_000
STAMP = encode_event(b"", AT_MS)[1:]
FIELDS = ((Tag.KEY, b"a key"), (Tag.REPLY_TO, b"one"), (Tag.REPLY_TO, b"two"), (Tag.BAGGAGE, b"\x00\xff"))

# Fails for the event "bad" until the file "repaired" exists.
FAILS_FOR_BAD = """
def process(batch):
    if "bad" in batch and not Path("repaired").exists():
        raise ValueError("bad luck")
    return batch
"""


def with_fields(body: bytes) -> bytes:
    return Event(body, AT_MS, FIELDS).encode()


def with_one_field(letter: bytes, body: bytes) -> bytes:
    """An event with one more field, as a later version may write it."""
    return b"2" + STAMP + b"006" + letter + b"03abc" + body


@pytest.mark.leaves("dead", "batch")
def test_events_with_fields_run_beside_others_and_one_that_is_not_understood_dies_alone(
    server: RealServer, tmp_path: Path
) -> None:
    results: list[Any] = []
    failures: list[BatchFailure] = []
    raws = [
        encode_event(b'"plain"', AT_MS + 1),
        with_fields(b'"fields"'),
        with_one_field(b"z", b'"not understood"'),
        with_one_field(b"Z", b'"ignored"'),
        encode_event(b'"last"', AT_MS + 1),
    ]
    with Fleet(server, tmp_path, FAILS_FOR_BAD, max_size=len(raws)) as fleet:
        server.admin.rpush(fleet.broker.keys.events, *raws)
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append, failure_handler=failures.append)
        fleet.finish(mb)
        assert list(Audit(fleet.broker).findings()) == []
        (dead,) = fleet.broker.dead
        assert fleet.broker.dead.events(dead.id) == [raws[2]]
    assert results == [["plain", "fields", "ignored", "last"]]
    (failure,) = failures
    assert failure.error.startswith("DecodeError: the event can't be read: a field of the event must be")
    assert failure.events == [raws[2].decode()]


def test_an_event_with_fields_dies_and_is_replayed_as_others_are(server: RealServer, tmp_path: Path) -> None:
    results: list[Any] = []
    failures: list[BatchFailure] = []
    settings = {"max_size": 2, "give_up_on": "ValueError"}
    with Fleet(server, tmp_path, FAILS_FOR_BAD, **settings) as fleet:
        broker, raw = fleet.broker, with_fields(b'"bad"')
        server.admin.rpush(broker.keys.events, raw)
        assert take_snapshot(broker).oldest_waiting_ms == AT_MS
        fleet.worker()
        fleet.scheduler()
        fleet.finish(fleet.batcher(result_handler=results.append, failure_handler=failures.append))
        (failure,) = failures
        assert (failure.error, failure.events) == ("ValueError: bad luck", ["bad"])
        assert failure.batch.recorded_at == moment(AT_MS)
        (dead,) = broker.dead
        assert whole_as_json(broker, dead)["events"] == ["bad"]
        assert broker.dead.events(dead.id) == [raw]
        assert list(Audit(broker).findings()) == []

        fleet.let("repaired")
        assert broker.dead.replay(dead.id)[0] == 1
        fleet.finish(fleet.batcher(result_handler=results.append))
    assert results == [["bad"]]
