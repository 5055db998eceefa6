"""The broker: one batcher's verbs over one server, in one place."""

from __future__ import annotations

from microbatch.broker.app.config import Config
from microbatch.broker.observe.guard import GuardedObserver
from microbatch.broker.observe.log_observer import LogObserver
from microbatch.broker.observe.observer import Observer
from microbatch.broker.policy.in_flight_bound import InFlightBound
from microbatch.broker.policy.policy import Policy
from microbatch.broker.policy.timing import Timing
from microbatch.broker.state.breaker import Breaker
from microbatch.broker.state.claims import Claims
from microbatch.broker.state.dead import Dead
from microbatch.broker.state.events import Events
from microbatch.broker.state.flushes import Flushes
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.lease import Lease
from microbatch.broker.state.ledger import Ledger
from microbatch.broker.state.progress import Progress
from microbatch.broker.state.recovery import Recovery
from microbatch.broker.state.results import Results
from microbatch.broker.state.stats import Stats
from microbatch.broker.state.unhandled import Unhandled
from microbatch.broker.state.wake import WakeList
from microbatch.broker.transport.async_server import AsyncServer
from microbatch.broker.transport.clock import Clock, ServerClock, ServerTime, TimeSource
from microbatch.broker.transport.request import Steps, command, commands
from microbatch.broker.transport.server import Server
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.text import printable

_PUBLISHED = (
    "frequency", "max_size", "eager", "max_in_flight", "max_in_flight_per_worker",
    "keep_dead", "keep_dead_max",
)  # fmt: skip


class CommonBroker(Verbs[S_co]):
    """What threads and asyncio both use of one batcher. Nothing is sent before a verb is called.

    Args:
        config: the batcher's settings.
        server: the server, for threads or for asyncio.
        time_source: tells the server's time to a verb.
        observer: is told of each change by the process that makes it; by default a `LogObserver`.
        timing: the times that all parts use; by default those that follow from the config.
    """

    def __init__(
        self,
        config: Config,
        server: S_co,
        time_source: TimeSource,
        *,
        observer: Observer | None = None,
        timing: Timing | None = None,
    ) -> None:
        super().__init__(server)
        self.config = config
        self.time_source = time_source
        self.observer: Observer = GuardedObserver(
            observer if observer is not None else LogObserver(), config.name
        )
        self.timing = timing if timing is not None else Timing.of(config)
        self.keys = Keys(config.key_prefix, config.name)
        self.events = Events(
            server, self.keys, time_source,
            max_waiting=config.max_waiting, dedupe_window=config.dedupe_window,
            replicated=config.durability == "replicated", replica_ms=self.timing.replica_ms,
            eager=config.eager,
        )  # fmt: skip
        self.flushes = Flushes(server, self.keys)
        self.wake = WakeList(server, self.keys)
        self.ledger = Ledger(server, self.keys, keeps_outcomes=_keeps_outcomes(config))
        self.dead = Dead(server, self.keys)
        self.unhandled = Unhandled(server, self.keys, neglected_ms=self.timing.neglected_ms)

    def results(self) -> Results[S_co]:
        """A consumer's side of the results stream, with a name of its own."""
        return Results(self.server, self.keys)

    def progress(self) -> Progress[S_co]:
        """A waiter's side of the progress stream."""
        return Progress(self.server, self.keys)

    @verb
    def held_back(self) -> Steps[str]:
        """Why cutting is held back, in words; empty if it is not."""
        reason, probe_at = yield from command("HMGET", self.keys.config, "held_back", "probe_at")
        if not reason or not (probe_at or b"").isdigit() or not int(probe_at):
            return printable(reason or b"")
        now_ms = yield from self.time_source.reading()
        seconds = max(0, int(probe_at) - now_ms) / 1000
        return f"{printable(reason)}; next probe in {seconds:.0f} s"


class AsyncBroker(CommonBroker[AsyncServer]):
    """What asyncio uses of one batcher.

    Args:
        config: the batcher's settings.
        server: the server; by default the one at the config's URL.
        observer: is told of each change by the process that makes it; by default a `LogObserver`.
        timing: the times that all parts use; by default those that follow from the config.

    Raises:
        ConfigError: no ``server`` is given and the config has no URL, a malformed one, or one of Sentinels.
    """

    def __init__(
        self,
        config: Config,
        *,
        server: AsyncServer | None = None,
        observer: Observer | None = None,
        timing: Timing | None = None,
    ) -> None:
        timing = timing if timing is not None else Timing.of(config)
        server = server if server is not None else AsyncServer.at(config.required_url())
        super().__init__(config, server, ServerTime(timing.clock_seconds), observer=observer, timing=timing)


class Broker(CommonBroker[Server]):
    """Everything that the server keeps for one batcher. Nothing is sent before a verb is called.

    Args:
        config: the batcher's settings.
        server: the server; by default the one at the config's URL.
        clock: what tells the time; by default the server's clock.
        observer: is told of each change by the process that makes it; by default a `LogObserver`.
        timing: the times that all parts use; by default those that follow from the config.

    Raises:
        ConfigError: no ``server`` is given and the config has no URL, or a malformed one.
    """

    def __init__(
        self,
        config: Config,
        *,
        server: Server | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
        timing: Timing | None = None,
    ) -> None:
        timing = timing if timing is not None else Timing.of(config)
        server = server if server is not None else Server.at(config.required_url())
        self.clock: Clock = clock if clock is not None else ServerClock(server, timing.clock_seconds)
        super().__init__(config, server, self.clock, observer=observer, timing=timing)
        self.policy = Policy.of(config)
        self.in_flight_bound = InFlightBound.of(config.max_in_flight)
        self.recovery = Recovery(self.server, self.keys)
        self.breaker = Breaker(self.server, self.keys, opens_after_ms=self.timing.breaker_opens_after_ms)
        self.claims = Claims(self.server, self.keys)
        self.stats = Stats(self.server, self.keys)

    def lease(self) -> Lease:
        """A scheduler's side of the lease, with a token of its own."""
        return Lease(self.server, self.keys, self.config.lease_ttl_ms)

    def publish_config(self) -> None:
        """Publish the batcher's settings on the server, for programs that know only its name.

        If ``max_in_flight`` depends on the workers, `publish_in_flight` must follow.
        """
        config, key = self.config, self.keys.config
        bound = self.in_flight_bound
        settings: dict[str, int | None] = {
            "frequency": config.frequency,
            "max_size": config.max_size,
            "eager": 1 if config.eager else None,
            "max_in_flight_per_worker": bound.number if bound.per_worker else None,
            "keep_dead": None if config.keep_dead is None else int(config.keep_dead),  # seconds
            "keep_dead_max": config.keep_dead_max,
        }
        if not bound.per_worker:
            settings["max_in_flight"] = bound.number
        changes = (
            ("HDEL", key, name) if value is None else ("HSET", key, name, value)
            for name, value in settings.items()
        )
        self.server.perform(commands(*changes))

    def publish_in_flight(self, most: int) -> None:
        """Publish how many batches may be queued or running now, with the workers that there are."""
        self.server.do("HSET", self.keys.config, "max_in_flight", most)

    def published_config(self) -> dict[str, int]:
        """The settings that the last active scheduler published; empty if there never was one."""
        values = self.server.do("HMGET", self.keys.config, *_PUBLISHED)
        return {
            name: int(value)
            for name, value in zip(_PUBLISHED, values, strict=True)
            if value is not None and value.isdigit() and len(value) < 10
        }

    def publish_held_back(self, reason: str, probe_at_ms: int = 0) -> None:
        """Publish why cutting is held back, and when the next probe is (unix ms; 0 for none).

        An empty reason withdraws both.
        """
        if reason:
            self.server.do("HSET", self.keys.config, "held_back", reason, "probe_at", probe_at_ms)
        else:
            self.server.do("HDEL", self.keys.config, "held_back", "probe_at")

    def close(self, *, in_use: bool = True) -> None:
        """Close the connections; with ``in_use``, also those that other threads are using."""
        self.server.close(in_use=in_use)


def _keeps_outcomes(config: Config) -> bool:
    """Whether outcomes go to the results stream: not with ``per_event`` and no handler to read them."""
    is_handled = config.result_handler is not None or config.failure_handler is not None
    return config.results == "keep" and (is_handled or not config.per_event)
