"""Handles standard streams that are closed or can't be written."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, NoReturn, TextIO

from microbatch.broker.errors import MicrobatchError
from microbatch.broker.process.plain import plain


class StreamClosed(MicrobatchError):
    """A standard stream that a command needs was closed before the command began."""


def set_up() -> None:
    """Make sure that all standard streams exist, and that errors of the output are reported as such.

    The null device replaces a stream that is closed, as with ``<&-`` and ``>&-``. Otherwise the first file or
    socket that is opened would replace it, and child processes would read and write that. If the command
    itself then reads standard input or writes standard output, StreamClosed is raised. Text for standard
    error is lost.
    """
    closed = [descriptor for descriptor in range(3) if not _is_open(descriptor)]
    for _ in closed:  # each open() gets the lowest free descriptor
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - the function's only form
    if 0 in closed:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_ClosedInput()))
    if 2 in closed:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if 1 in closed:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(_ClosedOutput()))
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _telling(sys.stdout)


def give_up_output() -> None:
    """Drop the output that could not be written. Otherwise Python would write it again at its end."""
    _Output.given_up = _ClosedOutput.given_up = True
    sys.stdout = _null_at(1)


def tell(line: str) -> None:
    """Write a line to standard error, if possible."""
    try:
        sys.stderr.write(f"{plain(line)}\n")
        sys.stderr.flush()
    except OSError:  # there is no other place to report it
        sys.stderr = _null_at(2)


class _Output(io.FileIO):
    """Standard output. Its errors name it."""

    given_up = False

    def write(self, data: Any) -> int:
        if self.given_up:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from error


class _ClosedInput(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: object) -> NoReturn:
        raise StreamClosed("standard input is closed; name a file to read")


class _ClosedOutput(io.RawIOBase):
    given_up = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.given_up:
            return len(data)
        raise StreamClosed("standard output is closed; send it to a file or to /dev/null")


def _telling(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream, based on an `_Output`.

    A character that the encoding lacks is written as an escape, as on standard error, and is not an error.
    """
    raw: Any = _Output(1, "w", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # with -u there is no buffer
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _null_at(descriptor: int) -> TextIO:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
    return os.fdopen(descriptor, "w", closefd=False)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
