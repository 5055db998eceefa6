"""The lease: one active scheduler at a time."""

from __future__ import annotations

import os
from typing import Any

import pytest
import redis

from microbatch.broker.broker import Broker
from microbatch.broker.errors import InDoubt
from microbatch.broker.lease import Holder, holder_of
from tests.unit.steps import FakeClient


def test_one_at_a_time(broker: Broker, client: FakeClient) -> None:
    first, second = broker.lease(), broker.lease()
    assert first.token != second.token
    assert first.acquire()
    assert not second.acquire()
    assert not second.renew()
    assert client.get(broker.keys.lease) == first.token.encode()
    assert 0 < client.pttl(broker.keys.lease) <= broker.config.lease_ttl_ms
    assert first.acquire()  # still its own


def test_renew_prolongs_it(broker: Broker, client: FakeClient) -> None:
    lease = broker.lease()
    lease.acquire()
    client.pexpire(broker.keys.lease, 1_000)
    assert lease.renew()
    assert client.pttl(broker.keys.lease) > 1_000


def test_one_that_ran_out_is_not_renewed_but_can_be_taken_again(broker: Broker, client: FakeClient) -> None:
    lease = broker.lease()
    lease.acquire()
    client.delete(broker.keys.lease)
    assert not lease.renew()
    assert not client.exists(broker.keys.lease)
    assert lease.acquire()


def test_release_hands_it_over_at_once(broker: Broker, client: FakeClient) -> None:
    first, second = broker.lease(), broker.lease()
    first.acquire()
    second.release()  # not its to give
    assert client.get(broker.keys.lease) == first.token.encode()
    first.release()
    assert second.acquire()


def test_one_whose_reply_was_lost_is_known_for_ones_own(
    broker: Broker, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = broker.lease()
    send = client.execute_command

    def lose_the_reply(*command: Any) -> None:
        send(*command)
        raise redis.ConnectionError("reset")

    with monkeypatch.context() as patched:
        patched.setattr(client, "execute_command", lose_the_reply)
        with pytest.raises(InDoubt):
            lease.acquire()
    assert client.get(broker.keys.lease) == lease.token.encode()
    assert lease.acquire()


def test_those_who_run_are_shown_until_they_leave_or_go_silent(broker: Broker, client: FakeClient) -> None:
    ttl = broker.config.lease_ttl_ms
    active, standby = broker.lease(), broker.lease()
    active.announce(0)
    standby.announce(10 * ttl - 1)
    assert client.zrange(broker.keys.schedulers, 0, -1) == [active.token.encode(), standby.token.encode()]
    standby.announce(10 * ttl)
    assert client.zrange(broker.keys.schedulers, 0, -1) == [standby.token.encode()]
    assert client.pttl(broker.keys.schedulers) > 0
    standby.leave()
    assert not client.exists(broker.keys.schedulers)


def test_a_token_names_its_process(broker: Broker) -> None:
    assert holder_of(broker.lease().token).pid == os.getpid()
    assert holder_of("web-1.example:17:00ff") == Holder("web-1.example", 17)
    assert str(Holder("web-1", 17)) == "web-1:17"
    assert holder_of("nonsense") == Holder("nonsense", 0)
