"""Push: events on their way to the list, as the very bytes that the server reads.

A client packs any command argument by argument. Here every argument but two is an event, so the command is
joined from the events and what stands before each of them, which depends on its length alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from microbatch.broker import wire


class Push:
    """The command that appends events to the list at one key."""

    def __init__(self, key: str) -> None:
        name = key.encode()
        self._words = b"$5\r\nRPUSH\r\n$%d\r\n%b" % (len(name), name)

    def packed(self, bodies: Sequence[bytes], recorded_at_ms: int) -> bytes:
        """The command for the events with these JSON texts."""
        prefix = wire.event_prefix(recorded_at_ms)
        if len(bodies) == 1:
            (body,) = bodies
            return b"*3\r\n%b\r\n$%d\r\n%b%b\r\n" % (self._words, len(prefix) + len(body), prefix, body)
        heads = _Heads(prefix)
        events = [heads[len(body)] + body for body in bodies]
        return b"*%d\r\n%b%b\r\n" % (2 + len(bodies), self._words, b"".join(events))


class _Heads(dict[int, bytes]):
    """What stands before an event's JSON, by the JSON's length; each is made when it is first asked for."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def __missing__(self, length: int) -> bytes:
        head = self[length] = b"\r\n$%d\r\n%b" % (len(self._prefix) + length, self._prefix)
        return head
