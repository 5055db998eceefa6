"""The feed: records each line of files or standard input as an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from microbatch.broker.errors import EncodeError, InDoubt, MicrobatchError
from microbatch.ops.line_events import NoEvent, why_no_lines, without_mark
from microbatch.ops.pace import Pace
from microbatch.producer.recorder import Recorder

_BLOCK_BYTES = 1 << 16


class FeedBroken(MicrobatchError):
    """Not all lines were recorded. The message says how many were, and where to go on."""


class Feed:
    """Records lines.

    Args:
        recorder: records the events.
        event_of: makes the event of a line; raises NoEvent.
        pace: limits the rate.
        on_invalid: called with a message for each line that is not an event, which is then skipped. Without
            it, such a line ends the feed.
        on_progress: called with the size in bytes of each block once its events are recorded.
    """

    def __init__(
        self,
        recorder: Recorder,
        event_of: Callable[[bytes], bytes],
        *,
        pace: Pace,
        on_invalid: Callable[[str], None] | None,
        on_progress: Callable[[int], None],
    ) -> None:
        self._recorder = recorder
        self._event_of = event_of
        self._pace = pace
        self._on_invalid = on_invalid
        self._on_progress = on_progress

    def read(self, name: str, stream: BinaryIO) -> None:
        """Record all lines of ``stream``. Lines from a pipe are recorded before it waits for more.

        Raises:
            FeedBroken: a line is not an event, or the server did not accept the lines. All lines before them
                were recorded. Or the stream has no lines of text, for example because it is compressed.
        """
        number = 0
        for lines in _blocks(stream):
            if not number and (why := why_no_lines(lines[0])):
                raise FeedBroken(f"{name}: {why}; {self._so_far()}")
            self._record_block(name, number, lines)
            number += len(lines)
            self._on_progress(sum(map(len, lines)) + len(lines))

    def _record_block(self, name: str, number: int, lines: list[bytes]) -> None:
        chunk: list[bytes] = []
        first = number + 1
        for number, line in enumerate(lines, number + 1):  # noqa: B020, PLR1704 - the count goes on
            try:
                body = self._event_of(without_mark(line) if number == 1 else line)
                self._recorder.check_sizes([body])
            except (NoEvent, EncodeError) as error:
                self._send(name, first, chunk)
                chunk, first = [], number + 1
                self._invalid(f"{name}:{number}: {error}")
                continue
            if body:
                chunk.append(body)
            if len(chunk) >= self._pace.at_once:
                self._send(name, first, chunk)
                chunk, first = [], number + 1
        self._send(name, first, chunk)

    def _send(self, name: str, first: int, chunk: list[bytes]) -> None:
        if not chunk:
            return
        self._pace.wait(len(chunk))
        try:
            self._recorder.record(chunk)
        except InDoubt as error:
            doubt = f"up to {len(chunk)} more from {name}:{first} on may be"
            raise FeedBroken(f"{error}; {self._so_far()}, and {doubt}") from error
        except MicrobatchError as error:
            raise FeedBroken(f"{error}; {self._so_far()}; go on at {name}:{first}") from error

    def _invalid(self, what: str) -> None:
        if self._on_invalid is None:
            raise FeedBroken(
                f"{what}; {self._so_far()}; correct the line and go on with it, or use --skip-invalid"
            )
        self._on_invalid(what)

    def _so_far(self) -> str:
        recorded = self._recorder.recorded
        return "1 event was recorded" if recorded == 1 else f"{recorded:,} events were recorded"


def _blocks(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of ``stream`` without their ends, grouped by the read that completed them."""
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    rest: list[bytes] = []
    while block := read(_BLOCK_BYTES):
        end = block.rfind(b"\n") + 1
        if not end:
            rest.append(block)
            continue
        whole = b"".join([*rest, block[: end - 1]])
        rest = [block[end:]]
        yield whole.split(b"\n")
    if last := b"".join(rest):
        yield [last]
