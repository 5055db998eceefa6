"""Reads text from any source: shortens it, makes it printable, or takes it as a number."""

from __future__ import annotations

import re

_PRINTED = 100
_LONGEST_TEXT = 1_000_000  # of an error or a traceback, in characters
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,16}|-[1-9][0-9]{0,15}")


def printable(raw: bytes | str) -> str:
    """Any bytes or text, on one short line that may be logged."""
    text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    return text[:_PRINTED].encode("unicode_escape").decode("ascii")


def shortened(text: str, most: int = _LONGEST_TEXT) -> str:
    """The text; without its middle if it has more than ``most`` characters, as many as a stored error may."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} [{len(text) - 2 * half:,} characters left out] {text[-half:]}"


def is_number(value: bytes) -> bool:
    """Whether a counter's value is a number, by the rule of the scripts."""
    return _NUMBER.fullmatch(value) is not None


def number(value: bytes) -> int:
    """A counter's value; 0 if it is not a number."""
    return int(value) if is_number(value) else 0
