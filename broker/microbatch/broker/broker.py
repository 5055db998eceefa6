"""The broker: one batcher's verbs over one server, in one place."""

from __future__ import annotations

from microbatch.broker.clock import Clock, ServerClock
from microbatch.broker.config import Config
from microbatch.broker.dead import Dead
from microbatch.broker.drain import Drain
from microbatch.broker.events import Events
from microbatch.broker.keys import Keys
from microbatch.broker.lease import Lease
from microbatch.broker.ledger import Ledger
from microbatch.broker.results import Results
from microbatch.broker.server import Server
from microbatch.broker.stats import Stats
from microbatch.broker.unhandled import Unhandled
from microbatch.broker.wire import printable


class Broker:
    """Everything that is kept on the server for one batcher. Nothing is sent before a verb is used.

    Raises:
        ConfigError: no ``server`` is given and the config has no URL, or a malformed one.
    """

    def __init__(self, config: Config, *, server: Server | None = None, clock: Clock | None = None) -> None:
        self.config = config
        self.server = server if server is not None else Server.at(config.required_url())
        self.keys = Keys(config.key_prefix, config.name)
        self.clock: Clock = clock if clock is not None else ServerClock(self.server)
        self.events = Events(self.server, self.keys, config, self.clock)
        self.ledger = Ledger(self.server, self.keys, keeps_outcomes=config.results == "keep")
        self.stats = Stats(self.server, self.keys)
        self.dead = Dead(self.server, self.keys)
        self.unhandled = Unhandled(self.server, self.keys)

    def lease(self) -> Lease:
        """A scheduler's side of the lease, with a token of its own."""
        return Lease(self.server, self.keys, self.config.lease_ttl_ms)

    def results(self) -> Results:
        """A consumer's side of the results stream, with a name of its own."""
        return Results(self.server, self.keys)

    def drain(self) -> Drain:
        """A waiter's side of the drain."""
        return Drain(self.server, self.keys)

    def publish_config(self) -> None:
        """Let those who know only the batcher's name see the settings that it works by."""
        config = self.config
        self.server.do("HSET", self.keys.config, "frequency", config.frequency, "max_size", config.max_size)

    def published_config(self) -> dict[str, int]:
        """The settings that the last active scheduler published; empty if there never was one."""
        reply = self.server.do("HGETALL", self.keys.config)
        return {
            printable(name): int(value)
            for name, value in reply.items()
            if value.isdigit() and len(value) < 10
        }

    def publish_pause(self, reason: str) -> None:
        """Let people see why nothing is cut, or, with an empty reason, that it is again."""
        if reason:
            self.server.do("HSET", self.keys.config, "paused", reason)
        else:
            self.server.do("HDEL", self.keys.config, "paused")

    def pause(self) -> str:
        """Why nothing is cut; empty if it is."""
        return printable(self.server.do("HGET", self.keys.config, "paused") or b"")

    def close(self, *, in_use: bool = True) -> None:
        """Close the connections, those in use by other threads included."""
        self.server.close(in_use=in_use)
