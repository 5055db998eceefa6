"""The lease: there is one active scheduler at a time."""

from __future__ import annotations

import os
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import InDoubt
from microbatch.broker.state import lease as module
from microbatch.broker.state.lease import Holder, holder_of, names
from microbatch.broker.transport.request import Request
from tests.doubles import set_time
from tests.unit.conftest import MakeBroker
from tests.unit.steps import FakeClient


def test_one_at_a_time(broker: Broker, client: FakeClient) -> None:
    first, second = broker.lease(), broker.lease()
    assert first.token != second.token
    assert first.acquire()
    assert not second.acquire()
    assert not second.renew()
    assert client.get(broker.keys.lease) == first.token.encode()
    assert 0 < client.pttl(broker.keys.lease) <= broker.config.lease_ttl_ms
    assert first.acquire()  # it still holds the lease


def test_renew_prolongs_it(broker: Broker, client: FakeClient) -> None:
    lease = broker.lease()
    lease.acquire()
    client.pexpire(broker.keys.lease, 100_000)
    assert lease.renew()
    assert client.pttl(broker.keys.lease) > 100_000


def test_a_lease_that_ran_out_is_not_renewed_but_can_be_acquired_again(
    broker: Broker, client: FakeClient
) -> None:
    lease = broker.lease()
    lease.acquire()
    client.delete(broker.keys.lease)
    assert not lease.renew()
    assert not client.exists(broker.keys.lease)
    assert lease.acquire()


def test_release_hands_it_over_at_once(broker: Broker, client: FakeClient) -> None:
    first, second = broker.lease(), broker.lease()
    first.acquire()
    second.release()  # the lease is not its own, so it can't release it
    assert client.get(broker.keys.lease) == first.token.encode()
    first.release()
    assert second.acquire()


def test_a_lease_whose_reply_was_lost_is_recognised(
    broker: Broker, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = broker.lease()
    perform = broker.server._perform

    def lose_the_reply(request: Request[Any]) -> None:
        perform(request)
        raise InDoubt("reset")

    with monkeypatch.context() as patched:
        patched.setattr(broker.server, "_perform", lose_the_reply)
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
    standby.deregister()
    assert not client.exists(broker.keys.schedulers)


def test_a_token_names_its_process(broker: Broker) -> None:
    assert holder_of(broker.lease().token).pid == os.getpid()
    assert holder_of("web-1.example:17:00ff") == Holder("web-1.example", 17)
    assert str(Holder("web-1", 17)) == "web-1:17"
    assert holder_of("nonsense") == Holder("nonsense", 0)


def test_schedulers_that_share_host_and_pid_are_told_apart() -> None:
    holders = [holder_of(token) for token in ("vm:7:00ff11", "vm:7:11ee22", "vm:8:22dd33")]
    assert names(holders) == ["vm:7 (00ff)", "vm:7 (11ee)", "vm:8"]
    assert names([]) == []


HOUR_MS = 3_600_000


class Watch:
    """A double for the monotonic clock of this host."""

    def __init__(self) -> None:
        self.seconds = 50.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    set_time(monkeypatch, module, monotonic=watch.monotonic)
    return watch


def outlive(client: FakeClient, broker: Broker) -> None:
    """Extend the lease by an hour, as happens when the server's clock is set back by an hour."""
    client.pexpire(broker.keys.lease, HOUR_MS)


@pytest.fixture
def short(make_broker: MakeBroker) -> Broker:
    return make_broker(lease_ttl=100)


def test_a_lease_that_is_not_renewed_for_three_times_its_length_is_seized(
    short: Broker, client: FakeClient, watch: Watch
) -> None:
    gone, standby = short.lease(), short.lease()
    assert gone.acquire()
    outlive(client, short)
    for _ in range(6):
        assert not standby.seize()
        watch.seconds += 50
    assert standby.seize() == holder_of(gone.token)
    assert client.get(short.keys.lease) == standby.token.encode()
    assert client.pttl(short.keys.lease) <= 100_000
    assert not gone.renew()
    assert standby.renew()


def test_a_lease_that_is_renewed_is_never_seized(short: Broker, client: FakeClient, watch: Watch) -> None:
    active, standby = short.lease(), short.lease()
    assert active.acquire()
    for renewal in range(20):
        assert not standby.seize()
        client.pexpireat(short.keys.lease, client.pexpiretime(short.keys.lease) + 1 + renewal)
        watch.seconds += 299


def test_a_lease_that_changes_hands_is_not_seized(short: Broker, client: FakeClient, watch: Watch) -> None:
    standby = short.lease()
    for holder in ("a", "b", "c"):
        client.set(short.keys.lease, holder)
        assert not standby.seize()
        watch.seconds += 299


def test_a_lease_that_nobody_holds_is_not_seized(short: Broker, client: FakeClient, watch: Watch) -> None:
    standby = short.lease()
    for _ in range(10):
        assert not standby.seize()
        watch.seconds += 100
    assert not client.exists(short.keys.lease)


def test_a_renewal_between_the_look_and_the_seizure_counts(
    short: Broker, client: FakeClient, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    active, standby = short.lease(), short.lease()
    assert active.acquire()
    outlive(client, short)
    assert not standby.seize()
    watch.seconds += 300
    look, looks = short.server._perform, list[bool]()

    def look_and_be_late(request: Request[Any]) -> Any:
        reply = look(request)
        if not looks:
            looks.append(True)
            assert active.renew()
        return reply

    monkeypatch.setattr(short.server, "_perform", look_and_be_late)
    assert not standby.seize()
    assert looks
    assert client.get(short.keys.lease) == active.token.encode()


def test_a_seizure_whose_reply_was_lost_is_found_out(
    short: Broker, client: FakeClient, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, standby = short.lease(), short.lease()
    assert gone.acquire()
    outlive(client, short)
    assert not standby.seize()
    watch.seconds += 300
    perform = short.server._perform

    def lose_the_reply(request: Request[Any]) -> Any:
        reply = perform(request)
        if request.calls:  # the script that seizes the lease
            raise InDoubt("reset")
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(short.server, "_perform", lose_the_reply)
        with pytest.raises(InDoubt):
            standby.seize()
    assert standby.acquire()
