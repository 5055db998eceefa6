"""Every key that Microbatch owns, built here and nowhere else.

The braces are the cluster hash tag: all keys of one batcher hash to one slot. RQ's own keys (jobs,
registries, workers) keep RQ's names and are not listed here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one batcher."""

    prefix: str
    name: str

    def _key(self, part: str) -> str:
        return f"{self.prefix}:{{{self.name}}}:{part}"

    @property
    def queue(self) -> str:
        """The name of RQ's queue, which is no key: an app's own queues, and other prefixes', have others."""
        return f"{self.prefix}:{self.name}"

    @property
    def events(self) -> str:
        """list: the waiting events, oldest first."""
        return self._key("events")

    @property
    def wake(self) -> str:
        """list: words for the active scheduler, which blocks on it; each once at most."""
        return self._key("wake")

    def batch(self, batch_id: str) -> str:
        """list: a batch's header, its run record, then its events."""
        return self._key(f"batch:{batch_id}")

    @property
    def inflight(self) -> str:
        """zset: the ledger. Batch id, scored by when the scheduler looks at it next (ms)."""
        return self._key("inflight")

    @property
    def dead(self) -> str:
        """zset: batch ids that were given up, scored by when (ms)."""
        return self._key("dead")

    def aside(self, batch_id: str) -> str:
        """any type: what stood under a batch's key and could not be read, kept for a person to look at."""
        return self._key(f"aside:{batch_id}")

    def aside_of(self, key: str) -> str:
        """any type: what stood under one of our keys and is of another type than ours."""
        return self.aside(key.removeprefix(self._key("")))

    def types(self) -> dict[str, str]:
        """The type of each key but the batches'. The counters come last."""
        return {
            self.events: "list",
            self.wake: "list",
            self.inflight: "zset",
            self.dead: "zset",
            self.seen: "zset",
            self.results: "stream",
            self.lease: "string",
            self.schedulers: "zset",
            self.config: "hash",
            self.drain: "stream",
            self.failing: "zset",
            self.breaker: "hash",
            self.held: "string",
            self.stats: "hash",
        }

    @property
    def seen(self) -> str:
        """zset: ids of events recorded lately, scored by when each is forgotten (ms). Expires by itself."""
        return self._key("seen")

    @property
    def results(self) -> str:
        """stream: committed results and failures that no handler has finished with."""
        return self._key("results")

    @property
    def lease(self) -> str:
        """string: the active scheduler's token, with an expiry."""
        return self._key("lease")

    @property
    def schedulers(self) -> str:
        """zset: every running scheduler's name, scored by when it was last seen (ms)."""
        return self._key("schedulers")

    @property
    def config(self) -> str:
        """hash: the settings that the active scheduler works by."""
        return self._key("config")

    @property
    def stats(self) -> str:
        """hash: counters, which only ever grow."""
        return self._key("stats")

    @property
    def failing(self) -> str:
        """zset: batches of which a run failed since the last success, scored by when first (ms). Expires."""
        return self._key("failing")

    @property
    def breaker(self) -> str:
        """hash: the row of failures since the last success, and when it opened the breaker. Expires."""
        return self._key("breaker")

    @property
    def held(self) -> str:
        """string: there only while the scheduler waits for room; how few batches with a job are enough."""
        return self._key("held")

    @property
    def drain(self) -> str:
        """stream: there only while somebody waits for an end; everything that may bring it adds an entry."""
        return self._key("drain")


def pattern_of_all(prefix: str) -> str:
    """What SCAN finds all keys of all batchers by that have this prefix."""
    return f"{prefix}:{{*}}:*"


def name_in(key: str, prefix: str) -> str | None:
    """The name of the batcher whose key this is; None if it is no batcher's with this prefix."""
    found = re.match(r":\{([^{}]+)\}:", key.removeprefix(prefix)) if key.startswith(prefix) else None
    return None if found is None else found[1]
