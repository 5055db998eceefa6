"""A request: what is sent in one round trip, and what its replies mean.

A request is a value. It knows nothing of sockets, threads or event loops, so `Server` and `AsyncServer`
perform the same requests. Work that takes several round trips is a generator of requests, as in psycopg 3: it
yields each request, and receives its answer.

redis-py's client does work for each command that events and batches do not need: it looks up how to read the
reply, counts, and packs argument by argument. A request does none of that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis
from hiredis import pack_command

from microbatch.broker.lua.scripts import Script

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

Value = str | bytes | int | float
Command = Sequence[Value]
Replies = Sequence[Any]
"""As the server sends them. The reply to a command that was refused is its error."""


@dataclass(slots=True)  # a frozen one would take twice as long to make, at each event
class Request(Generic[T_co]):
    """Commands that are sent in one round trip, and how their replies become an answer. Never changed.

    A verb that takes several round trips has ``answer = yield from request`` for each.
    """

    packed: bytes
    """The commands as they are sent."""
    count: int
    """How many replies there are."""
    decode: Callable[[Replies], T_co]
    """Makes the answer of the replies. Raises the error that a reply is."""
    calls: Mapping[int, Command] | None = None
    """For each script that is called by its hash: the place of its reply, and the call with its full text."""
    hints: int = 0
    """How many replies at the end may get lost with the connection. The replies before them still count."""

    def __iter__(self) -> Generator[Request[Any], Any, T_co]:
        answer: T_co = yield self
        return answer

    def then(self, use: Callable[[T_co], U]) -> Request[U]:
        """The same commands, with ``use`` applied to their answer."""
        decode = self.decode
        return Request(self.packed, self.count, lambda replies: use(decode(replies)), self.calls, self.hints)


Steps = Generator[Request[Any], Any, T]
"""Work that takes several round trips: it yields requests, and returns its answer."""


def pack(*commands: Command) -> bytes:
    """Commands as they are sent."""
    return b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]


def command(*words: Value) -> Request[Any]:
    """One command; its answer is its reply."""
    return Request(pack_command(words), 1, only)  # type: ignore[arg-type]


def commands(*several: Command) -> Request[Replies]:
    """Commands that are sent together. The first error among the replies is raised, after all are done."""
    return Request(pack(*several), len(several), good)


def each(*several: Command) -> Request[Replies]:
    """Commands that are sent together. The reply to a command that was refused is its error."""
    return Request(pack(*several), len(several), _as_they_are)


def transaction(*several: Command) -> Request[Replies]:
    """Commands that are done together, by MULTI and EXEC. None is done if the server refuses to queue one.

    On a connection that watches a key, the answer raises WatchError if the key has changed. Then nothing was
    done.
    """
    return Request(pack(("MULTI",), *several, ("EXEC",)), len(several) + 2, _of_transaction)


def only(replies: Replies) -> Any:
    """The one reply. Raises it if it is an error."""
    (reply,) = replies
    if isinstance(reply, Exception):
        raise reply
    return reply


def call(
    script: Script,
    keys: Sequence[str | bytes],
    args: Sequence[Value] = (),
    decode: Callable[[Replies], Any] = only,
) -> Request[Any]:
    """A call of a script by its hash. The script is sent in full if the server does not know it."""
    operands = (len(keys), *keys, *args)
    by_hash = pack_command(("EVALSHA", script.sha, *operands))  # type: ignore[arg-type]
    return Request(by_hash, 1, decode, {0: ("EVAL", script.text, *operands)})


def together(*requests: Request[Any]) -> Request[list[Any]]:
    """Requests that are sent in one round trip. The answer is a list with each one's answer, or its error."""
    calls: dict[int, Command] = {}
    place = 0
    for request in requests:
        for at, text in (request.calls or {}).items():
            calls[place + at] = text
        place += request.count

    def decode(replies: Replies) -> list[Any]:
        answers, at = list[Any](), 0
        for request in requests:
            answers.append(_answer(request, replies[at : at + request.count]))
            at += request.count
        return answers

    return Request(b"".join([request.packed for request in requests]), place, decode, calls)


def info(section: str) -> Request[dict[str, str]]:
    """A section of the server's INFO."""
    return command("INFO", section).then(_lines)


def good(replies: Replies) -> Replies:
    """The replies. Raises the first that is an error."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    """A dict of a reply that has names and values in turn, such as the reply to HGETALL."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _as_they_are(replies: Replies) -> Replies:
    return replies


def _of_transaction(replies: Replies) -> Replies:
    done = good(replies)[-1]  # a refused command's own error says why; EXEC's says only that one was refused
    if done is None:
        raise redis.WatchError("what is watched has changed")
    return good(done)


def _answer(request: Request[Any], replies: Replies) -> Any:
    try:
        return request.decode(replies)
    except redis.RedisError as error:
        return error


def _lines(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, found, value in lines if found}
