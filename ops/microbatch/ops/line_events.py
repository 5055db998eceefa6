"""Turns lines into events, and recognizes files that are not lines of text."""

from __future__ import annotations

from pydantic_core import from_json

from microbatch.broker.wire import codec

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SHOWN_BYTES = 40
_OTHER_FORMATS = {
    b"\x1f\x8b": ("it is compressed with gzip", "gzip -dc"),
    b"BZh": ("it is compressed with bzip2", "bzip2 -dc"),
    b"\xfd7zXZ": ("it is compressed with xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("it is compressed with zstd", "zstd -dc"),
    b"PK\x03\x04": ("it is a zip archive", "unzip -p"),
    b"\xff\xfe": ("it is UTF-16", "iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("it is UTF-16", "iconv -f UTF-16 -t UTF-8"),
    b"{\0": ("it is UTF-16", "iconv -f UTF-16LE -t UTF-8"),
    b"\0{": ("it is UTF-16", "iconv -f UTF-16BE -t UTF-8"),
}
"""By the first bytes of a file: its format, and the command that turns it into text."""


class NoEvent(ValueError):
    """A line is not an event."""


def json_event(line: bytes) -> bytes:
    """The event of a line of JSON: the line, stripped; empty for a blank line. Raises NoEvent."""
    body = line.strip()
    if body:
        try:
            from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise NoEvent(f"not JSON: {_reason(body, str(error))}") from None
    return body


def text_event(line: bytes) -> bytes:
    """The event of a line of text: a string. Bytes that are not UTF-8 become U+FFFD."""
    return codec.encode(line.removesuffix(b"\r").decode("utf-8", "replace"))


def without_mark(first_line: bytes) -> bytes:
    """The first line without the byte order mark that some editors write."""
    return first_line.removeprefix(_BYTE_ORDER_MARK)


def why_no_lines(beginning: bytes) -> str:
    """Why a file that begins so has no lines of UTF-8, and what to do about it; empty if it may have some."""
    for start, (what, command) in _OTHER_FORMATS.items():
        if beginning.startswith(start):
            return f"{what}: record what `{command}` makes of it"
    return ""


def _reason(body: bytes, error: str) -> str:
    reason = error.replace(" at line 1 column ", " at column ")
    shown = body[:_SHOWN_BYTES].decode("utf-8", "replace") + ("…" if len(body) > _SHOWN_BYTES else "")
    goes_on = body[:1] in (b"{", b"[") and error.startswith("EOF")
    hint = "; an event is one line: `jq -c .` makes lines of values that go on over several"
    return f"{reason}: {shown}{hint if goes_on else ''}"
