"""The drain: whatever happens after it was opened ends the wait for it, in whatever order things come."""

from __future__ import annotations

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.state import drain as module
from microbatch.broker.state.drain import Drain
from tests.unit.steps import FakeClient, record_and_cut

ENTRY = ("v", 1, "result", "6")


@pytest.fixture
def drain(broker: Broker) -> Drain:
    return broker.drain()


def commit(broker: Broker) -> None:
    broker.ledger.commit(record_and_cut(broker, 1), ENTRY)


def test_it_expires(broker: Broker, drain: Drain, client: FakeClient) -> None:
    drain.open()
    assert 0 < client.pttl(broker.keys.drain) <= 60_000


def test_what_happens_between_the_look_and_the_wait_ends_the_wait(broker: Broker, drain: Drain) -> None:
    drain.open()
    commit(broker)
    assert drain.wait(5_000)
    assert not drain.wait(1)


def test_opening_it_again_hides_nothing_and_sends_nothing(
    broker: Broker, drain: Drain, client: FakeClient
) -> None:
    drain.open()
    before = client.xinfo_stream(broker.keys.drain)["last-generated-id"]
    drain.open()
    assert client.xinfo_stream(broker.keys.drain)["last-generated-id"] == before
    commit(broker)
    drain.open()
    assert drain.wait(5_000)


def test_one_that_expired_during_a_wait_is_opened_before_the_next_look(
    broker: Broker, drain: Drain, client: FakeClient
) -> None:
    drain.open()
    client.delete(broker.keys.drain)
    assert not drain.wait(1)
    drain.open()
    commit(broker)
    assert drain.wait(5_000)


def test_one_that_expired_meanwhile_is_opened_before_the_next_look(
    broker: Broker, drain: Drain, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the waiter was busy with a handler for a minute."""
    monkeypatch.setattr(module, "_RENEW_SECONDS", 0.0)
    drain.open()
    client.delete(broker.keys.drain)
    drain.open()
    commit(broker)
    assert drain.wait(5_000)
