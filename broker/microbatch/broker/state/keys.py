"""Every key that Microbatch owns, built here and nowhere else.

The braces are the cluster hash tag: all keys of one batcher hash to one slot. RQ's own keys (jobs,
registries, workers) keep RQ's names and are not listed here.
"""

from __future__ import annotations

import re


class Keys:
    """The keys of one batcher."""

    def __init__(self, prefix: str, name: str) -> None:
        self.prefix = prefix
        self.name = name
        self.queue = f"{prefix}:{name}"
        """The name of RQ's queue. It differs from an app's own queues and from those of other prefixes."""
        self.events = self._key("events")
        """list: the waiting events, oldest first."""
        self.wake = self._key("wake")
        """list: words for the active scheduler, which blocks on it; each word at most once."""
        self.inflight = self._key("inflight")
        """zset: the ledger. Batch id, scored by when the scheduler looks at it next (ms)."""
        self.dead = self._key("dead")
        """zset: batch ids that were given up, scored by when (ms)."""
        self.seen = self._key("seen")
        """zset: ids of events recorded lately, scored by when each is forgotten (ms). Expires on its own."""
        self.results = self._key("results")
        """stream: committed results and failures that no handler has finished with."""
        self.lease = self._key("lease")
        """string: the active scheduler's token, with an expiry."""
        self.schedulers = self._key("schedulers")
        """zset: every running scheduler's name, scored by when it was last seen (ms)."""
        self.config = self._key("config")
        """hash: the settings that the active scheduler works by."""
        self.stats = self._key("stats")
        """hash: counters, which only ever grow."""
        self.failing = self._key("failing")
        """zset: batches of which a run failed since the last success, scored by when first (ms). Expires."""
        self.breaker = self._key("breaker")
        """hash: the row of failures since the last success, and when it opened the breaker. Expires."""
        self.held = self._key("held")
        """string: there only while the scheduler waits for room; how few batches with a job are enough."""
        self.flushes = self._key("flushes")
        """hash: the numbers of the last flush that was asked for, and of the last that is done."""
        self.progress = self._key("progress")
        """stream: there only while somebody waits for an end; everything that may bring it adds an entry."""

    def _key(self, part: str) -> str:
        return f"{self.prefix}:{{{self.name}}}:{part}"

    def batch(self, batch_id: str) -> str:
        """list: a batch's header, its run record, then its events."""
        return self._key(f"batch:{batch_id}")

    def reply(self, client: str) -> str:
        """stream: replies to the events of one client. Expires when the client has not read for a minute."""
        return self._key(f"reply:{client}")

    def quarantine(self, batch_id: str) -> str:
        """any type: the value of a batch's key that could not be read, kept for a person to look at."""
        return self._key(f"quarantine:{batch_id}")

    def quarantine_of(self, key: str) -> str:
        """any type: the value of one of our keys that is not of our type."""
        return self.quarantine(key.removeprefix(self._key("")))

    @property
    def of_numbers(self) -> tuple[str, ...]:
        """The hashes whose fields are all numbers."""
        return self.flushes, self.stats

    def types(self) -> dict[str, str]:
        """The type of each key but the batches'. Those `of_numbers` come last."""
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
            self.progress: "stream",
            self.failing: "zset",
            self.breaker: "hash",
            self.held: "string",
            self.flushes: "hash",
            self.stats: "hash",
        }


def pattern_of_all(prefix: str) -> str:
    """The pattern by which SCAN finds all keys of all batchers with this prefix."""
    return f"{prefix}:{{*}}:*"


def name_in(key: str, prefix: str) -> str | None:
    """The name of the batcher whose key this is; None if it is not the key of a batcher with this prefix."""
    found = re.match(r":\{([^{}]+)\}:", key.removeprefix(prefix)) if key.startswith(prefix) else None
    return None if found is None else found[1]
