"""Encodes an `RPUSH` of events.

A client packs a command argument by argument. In this command all arguments but two are events. So it is
joined from the events and the bytes before each of them, which depend only on the event's length.
"""

from __future__ import annotations

from collections.abc import Sequence


class RpushEncoder:
    """The command that appends events to the list at one key."""

    def __init__(self, key: str) -> None:
        name = key.encode()
        self._words = b"$5\r\nRPUSH\r\n$%d\r\n%b" % (len(name), name)

    def packed(self, bodies: Sequence[bytes], prefix: bytes) -> bytes:
        """The command for events that all begin with ``prefix`` and continue with one of ``bodies``."""
        if len(bodies) == 1:
            (body,) = bodies
            return b"*3\r\n%b\r\n$%d\r\n%b%b\r\n" % (self._words, len(prefix) + len(body), prefix, body)
        heads = _Heads(prefix)
        parts = [b"*%d\r\n%b" % (2 + len(bodies), self._words)]
        parts += [heads[len(body)] + body for body in bodies]
        parts.append(b"\r\n")
        return b"".join(parts)


class _Heads(dict[int, bytes]):
    """The bytes before a body, by the body's length. Each is made when it is first needed."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def __missing__(self, length: int) -> bytes:
        head = self[length] = b"\r\n$%d\r\n%b" % (len(self._prefix) + length, self._prefix)
        return head
