"""The progress stream: whatever happens after it was opened ends the wait for it, in any order."""

from __future__ import annotations

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.state.progress import Progress
from microbatch.broker.wire.ending import Ending
from tests.unit.steps import FakeClient, record_and_cut

ENTRY = ("v", 1, "result", "6")


@pytest.fixture
def progress(broker: Broker) -> Progress:
    return broker.progress()


def commit(broker: Broker) -> None:
    broker.ledger.commit(record_and_cut(broker, 1), Ending(ENTRY))


def test_it_expires(broker: Broker, progress: Progress, client: FakeClient) -> None:
    progress.open()
    assert 0 < client.pttl(broker.keys.progress) <= 60_000


def test_what_happens_between_the_look_and_the_wait_ends_the_wait(broker: Broker, progress: Progress) -> None:
    progress.open()
    commit(broker)
    assert progress.wait(5_000)
    assert not progress.wait(1)


def test_opening_it_again_hides_nothing_and_sends_nothing(
    broker: Broker, progress: Progress, client: FakeClient
) -> None:
    progress.open()
    before = client.xinfo_stream(broker.keys.progress)["last-generated-id"]
    progress.open()
    assert client.xinfo_stream(broker.keys.progress)["last-generated-id"] == before
    commit(broker)
    progress.open()
    assert progress.wait(5_000)


def test_one_that_expired_during_a_wait_is_opened_before_the_next_look(
    broker: Broker, progress: Progress, client: FakeClient
) -> None:
    progress.open()
    client.delete(broker.keys.progress)
    assert not progress.wait(1)
    progress.open()
    commit(broker)
    assert progress.wait(5_000)


def test_one_that_expired_meanwhile_is_opened_before_the_next_look(
    broker: Broker, client: FakeClient
) -> None:
    """The waiter was busy with a handler for a minute."""
    progress = Progress(broker.server, broker.keys, renew_seconds=0.0)
    progress.open()
    client.delete(broker.keys.progress)
    progress.open()
    commit(broker)
    assert progress.wait(5_000)
