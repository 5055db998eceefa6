"""Text from any source: shortened, printable, or a number."""

from __future__ import annotations

import re

_PRINTED = 100
_LONGEST_TEXT = 1_000_000  # of an error or a traceback, in characters
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,16}|-[1-9][0-9]{0,15}")


def printable(raw: bytes | str) -> str:
    """Something that may be anything, on one line, fit for a log."""
    text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    return text[:_PRINTED].encode("unicode_escape").decode("ascii")


def shortened(text: str) -> str:
    """The text, without its middle if it is longer than what is stored of an error."""
    if len(text) <= _LONGEST_TEXT:
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[:half]} [{len(text) - 2 * half:,} characters left out] {text[-half:]}"


def is_number(value: bytes) -> bool:
    """Whether a counter is one, to the scripts as well."""
    return _NUMBER.fullmatch(value) is not None


def number(value: bytes) -> int:
    """What a counter says; 0 if it is not one."""
    return int(value) if is_number(value) else 0
