"""Makes lines of JSON that are harmless on a terminal."""

from __future__ import annotations

import json
import re

from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from microbatch.broker.process.plain import is_plain


def json_line(value: object) -> bytes:
    """The value as JSON on one line, without the newline.

    NaN and the infinities, which events may contain and JSON lacks, become null. Characters that control a
    terminal are written as JSON escapes. So are lone surrogates, which undecodable file names contain and
    UTF-8 lacks.
    """
    try:
        text = to_json(value, inf_nan_mode="null").decode()
    except PydanticSerializationError:
        text = json.dumps(to_jsonable_python(value, inf_nan_mode="null"), separators=(",", ":"))
    return (text if text.isprintable() else re.sub(r"[^ -~]", _escaped, text)).encode()


def _escaped(match: re.Match[str]) -> str:
    """The escape of a character in a string. Outside of strings, JSON is ASCII."""
    char = match.group()
    if is_plain(char):
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
