"""The overview: shows all batchers of one server, a line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.errors import ConfigError, DecodeError, Refused
from microbatch.broker.inspect.snapshot import Snapshot, take_snapshot
from microbatch.broker.state.batchers import names
from microbatch.broker.transport.server import Server
from microbatch.ops.status import age_ms, snapshot_as_json
from microbatch.ops.views.status import age_text


@dataclass(frozen=True, slots=True)
class Batcher:
    """One batcher of the server."""

    name: str
    server: str
    """The server's URL, fit to be shown."""
    count: Snapshot | None
    unreadable: str = ""
    """Why there is no count; empty if there is one."""

    def as_json(self) -> dict[str, Any]:
        """A batcher as `microbatch list --json` prints it."""
        if self.count is None:
            return {"batcher": self.name, "server": self.server, "unreadable": self.unreadable}
        return snapshot_as_json(self.name, self.server, self.count)


def any_config() -> Config:
    """The settings of the environment, for a command that concerns no particular batcher."""
    return Config(name="all")


def brokers_of_all(
    server: Server, key_prefix: str, on_progress: Callable[[], None] = lambda: None
) -> list[Broker]:
    """The verbs of each batcher of the server with this key prefix. Raises ServerError."""
    found = []
    for name in names(server, key_prefix, on_progress):
        try:
            found.append(Broker(Config(name=name, key_prefix=key_prefix), server=server))
        except ConfigError:  # not Microbatch's keys: no batcher can have this name
            continue
    return found


def look_at(broker: Broker) -> Batcher:
    """A batcher's present state. Raises ServerError if the server can't be asked."""
    name, where = broker.config.name, broker.server.where
    try:
        return Batcher(name, where, take_snapshot(broker))
    except (DecodeError, Refused) as error:  # the other batchers may still be readable
        return Batcher(name, where, None, str(error))


def render_all(batchers: Sequence[Batcher]) -> Table:
    """A table of the batchers, for a screen of 80 columns."""
    table = Table(box=None, pad_edge=False)
    table.add_column("batcher", header_style="bold", overflow="fold")
    for name in ("waiting", "oldest", "in flight", "dead", "results"):
        table.add_column(name, justify="right", header_style="dim", no_wrap=True)
    table.add_column("scheduler", header_style="dim", overflow="fold")
    for batcher in batchers:
        table.add_row(Text(batcher.name), *_cells(batcher))
    return table


def _cells(batcher: Batcher) -> list[Text]:
    count = batcher.count
    if count is None:
        return [*[Text("?")] * 5, Text(batcher.unreadable, "bold red")]
    dead = count.counters.dead_batches_now
    return [
        Text(f"{count.waiting_events:,}"),
        Text(age_text(age_ms(count, count.oldest_waiting_ms))),
        Text(f"{count.in_flight_batches:,}"),
        Text(f"{dead:,}", "bold red" if dead else ""),
        Text(f"{count.unhandled:,}"),
        Text("none", "bold red") if count.active is None else Text(str(count.active), "green"),
    ]
