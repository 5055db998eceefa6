"""Batch ids are random, so that nothing from before a loss of data can affect what came after it."""

from __future__ import annotations

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.wire import identity
from tests.unit.steps import FakeClient, claim, record_and_cut


@pytest.fixture
def counted_ids(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids from a counter at the server. It restarts when the server has lost its data."""
    monkeypatch.setattr(identity, "new_id", lambda: f"{client.incr('test:ids'):032x}")


def commit_from_before_the_loss(broker: Broker, client: FakeClient) -> tuple[bool, list[str]]:
    """A worker commits a batch of a server that has since lost all data and got another batch."""
    zombie = claim(broker, record_and_cut(broker, "before"))
    client.flushall()
    record_and_cut(broker, "after")
    return broker.ledger.commit(zombie.id), broker.ledger.in_flight()


def test_a_commit_from_before_a_loss_touches_nothing(broker: Broker, client: FakeClient) -> None:
    committed, in_flight = commit_from_before_the_loss(broker, client)
    assert not committed
    assert len(in_flight) == 1


def test_with_counted_ids_it_would_end_another_batch(
    broker: Broker, client: FakeClient, counted_ids: None
) -> None:
    committed, in_flight = commit_from_before_the_loss(broker, client)
    assert committed
    assert in_flight == []
