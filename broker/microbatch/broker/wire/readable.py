"""Finds JSON that can be written but not read: deep nesting, and very long integers.

Parsing each text again would double the cost of an event. A look at few of its bytes finds the texts that may
be unreadable, and only these are parsed.
"""

from __future__ import annotations

import re

from pydantic_core import from_json

_LEVELS = 200
_DIGITS = 4_300
_PIECE = 100
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_RUN_OF_DIGITS = re.compile(rb"\d*")


def why_unreadable(body: bytes) -> str:
    """Why no reader accepts this JSON text; empty if readers do. Texts of up to 200 bytes are not checked."""
    if len(body) <= _LEVELS or not (_may_be_deep(body) or _may_have_a_long_number(body)):
        return ""
    try:
        from_json(body)
    except ValueError as error:
        return (
            f"no reader takes it: {error}; {_LEVELS} levels and integers of {_DIGITS:,} digits are the most"
        )
    return ""


def _may_be_deep(body: bytes) -> bool:
    """Whether more than 200 brackets may be open somewhere, judging by the numbers of brackets in each piece.

    Brackets inside strings are counted too. Only a text that is written for it can hide deep nesting from
    this check. An event with such a text is dead at the worker.
    """
    brackets = body.translate(None, _NO_BRACKETS)
    if len(brackets) <= _LEVELS:
        return False
    level = 0
    for start in range(0, len(brackets), _PIECE):
        piece = brackets[start : start + _PIECE]
        opened = piece.count(b"[") + piece.count(b"{")
        if level + opened > _LEVELS:
            return True
        level += 2 * opened - len(piece)
    return level != 0


def _may_have_a_long_number(body: bytes) -> bool:
    """Whether the text has more than 4,300 digits in a row. Such a row covers some multiple of 4,300."""
    for at in range(_DIGITS, len(body), _DIGITS):
        if body[at : at + 1].isdigit():
            before = body[at - _DIGITS : at]
            left = len(before) - len(before.rstrip(b"0123456789"))
            found = _RUN_OF_DIGITS.match(body, at)
            if found is not None and left + found.end() - at > _DIGITS:
                return True
    return False
