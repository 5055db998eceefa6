"""Results that wait while no consumer runs: what is reported about them, and when."""

from __future__ import annotations

import logging

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.inspect.audit import Audit
from microbatch.broker.state import unhandled
from microbatch.broker.state.results import GROUP, HANDED_BACK, Seen
from microbatch.broker.transport.request import command
from microbatch.scheduler import neglect as module
from microbatch.scheduler.neglect import NeglectWatch
from tests.doubles import ManualClock, set_time
from tests.unit.steps import FakeClient

HOUR_MS = 3_600_000
TEXT = "1 result or failure waits for a handler, the oldest for {} h, and there is no consumer"


def wait(broker: Broker, client: FakeClient, *, since_ms: int, hint: bool = False) -> None:
    """Put an entry on the stream that was added at this time."""
    client.xadd(broker.keys.results, {"handed_back" if hint else "result": "1"}, id=f"{since_ms}-1")


def said(broker: Broker, now_ms: int) -> str | None:
    found = broker.unhandled.neglect(now_ms)
    return None if found is None else str(found)


def test_nothing_waits(broker: Broker) -> None:
    assert said(broker, 10 * HOUR_MS) is None


def test_results_are_neglected_after_an_hour(broker: Broker, client: FakeClient) -> None:
    wait(broker, client, since_ms=1_000)
    assert said(broker, HOUR_MS + 999) is None
    assert said(broker, HOUR_MS + 1_000) == TEXT.format(1)
    wait(broker, client, since_ms=2_000)
    expected = "2 results and failures wait for a handler, the oldest for 30 h, and there is no consumer"
    assert said(broker, 30 * HOUR_MS + 1_000) == expected


def test_they_are_not_while_a_consumer_shows_itself(broker: Broker, client: FakeClient) -> None:
    """The consumer may have too much to do, or a handler that raises."""
    wait(broker, client, since_ms=1_000)
    results = broker.results()
    results.prepare()
    results.read(count=1)
    assert said(broker, 10 * HOUR_MS) is None
    results.leave_group()
    assert said(broker, 10 * HOUR_MS) == TEXT.format(9)  # what was handed back waits for a consumer


def seen(monkeypatch: pytest.MonkeyPatch, *consumers: Seen) -> None:
    """Make the server see these consumers."""
    answer = command("PING").then(lambda _: list(consumers))
    monkeypatch.setattr(unhandled, "consumers_of", lambda _stream: answer)


def test_whether_a_consumer_was_seen_within_a_minute(
    broker: Broker, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert broker.unhandled.no_consumer() == "there is no consumer"
    results = broker.results()
    results.prepare()
    results.read(count=1)
    assert broker.unhandled.no_consumer() == ""
    seen(monkeypatch, Seen("host:1:a", 0, 61_900))
    assert broker.unhandled.no_consumer() == "no consumer was seen for 61 s"


def test_a_group_without_a_consumer_has_none(broker: Broker, client: FakeClient) -> None:
    wait(broker, client, since_ms=1_000)
    client.xgroup_create(broker.keys.results, GROUP, "0")
    assert said(broker, 2 * HOUR_MS) == TEXT.format(1)


def test_a_hint_is_nothing_to_handle(broker: Broker, client: FakeClient) -> None:
    wait(broker, client, since_ms=1_000, hint=True)
    assert said(broker, 2 * HOUR_MS) is None
    wait(broker, client, since_ms=2_000)
    assert said(broker, 2 * HOUR_MS) is not None


def test_what_is_no_stream_is_told(broker: Broker, client: FakeClient) -> None:
    client.set(broker.keys.results, "a string")
    with pytest.raises(Refused, match="WRONGTYPE"):
        said(broker, HOUR_MS)


def test_verify_names_them(broker: Broker, client: FakeClient, clock: ManualClock) -> None:
    wait(broker, client, since_ms=1_000)
    clock.ms = 2 * HOUR_MS
    (finding,) = Audit(broker).findings()
    assert (finding.key, finding.what) == (broker.keys.results, TEXT.format(1))


SCHEDULERS = '1 result or failure waits for a handler, and {}; run a consumer, or set results to "discard"'


class Watch:
    """A scheduler's watch, with minutes that a test counts."""

    def __init__(self, broker: Broker, patch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture) -> None:
        self._now = 0.0
        set_time(patch, module, monotonic=lambda: self._now)
        self._watch, self._log = NeglectWatch(broker), log

    def look(self, minutes: int) -> list[str]:
        """Look once a minute for ``minutes``. Returns what was reported."""
        self._log.clear()
        for _ in range(minutes):
            self._now += 60.0
            self._watch.look()
        return [record.getMessage() for record in self._log.records]


def test_the_scheduler_says_so_once_an_hour(
    broker: Broker,
    client: FakeClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch, text = Watch(broker, monkeypatch, caplog), SCHEDULERS.format("there is no consumer")
    assert watch.look(100) == []
    wait(broker, client, since_ms=1_000)
    assert watch.look(60) == []
    assert watch.look(1) == [f"letters: {text}"]
    assert watch.look(120) == [f"letters: {text}"] * 2
    client.xtrim(broker.keys.results, maxlen=0)
    assert watch.look(60) == []
    wait(broker, client, since_ms=2_000)
    assert watch.look(60) == []  # the hour begins anew
    assert watch.look(1) == [f"letters: {text}"]


@pytest.mark.parametrize(("idle_ms", "says"), [(HOUR_MS - 1, False), (HOUR_MS, True)])
def test_the_scheduler_says_so_when_the_consumers_have_been_gone_for_an_hour(  # noqa: PLR0917
    broker: Broker,
    client: FakeClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    idle_ms: int,
    says: bool,
) -> None:
    wait(broker, client, since_ms=1_000)
    seen(monkeypatch, Seen(HANDED_BACK, 1, 0), Seen("host:1:a", 0, idle_ms))
    text = SCHEDULERS.format("no consumer was seen for an hour")
    assert Watch(broker, monkeypatch, caplog).look(2) == ([f"letters: {text}"] if says else [])


def test_the_scheduler_goes_on_where_it_may_not_look(
    broker: Broker, client: FakeClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    client.set(broker.keys.results, "a string")
    Watch(broker, monkeypatch, caplog).look(1)
    assert "letters: whether results are neglected can't be seen: " in caplog.text
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
