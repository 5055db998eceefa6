"""Server settings under which the guarantees do not hold."""

from __future__ import annotations

from microbatch.broker.errors import Refused
from microbatch.broker.transport.request import command, info, pairs
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.text import printable


def risks(server: Server) -> list[str]:
    """One line for each way in which this server could lose what it has acknowledged. Raises ServerError."""
    found = []
    policy = server.perform(info("memory")).get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(
            f"maxmemory-policy is {policy}: short of memory, the server throws events away; set noeviction"
        )
    if server.perform(info("persistence")).get("aof_enabled") != "1":
        found.append(
            "there is no append-only file: what the server holds is lost when it ends; set appendonly yes"
        )
    elif (fsync := _setting(server, "appendfsync")) not in (None, "always"):
        found.append(f"appendfsync is {fsync}: a crash of its host can lose the last second; set always")
    return found


def _setting(server: Server, name: str) -> str | None:
    """A setting of the server, or None if we are not allowed to see it."""
    try:
        value = server.perform(command("CONFIG", "GET", name).then(pairs)).get(name.encode())
    except Refused:
        return None
    return None if value is None else printable(value)
