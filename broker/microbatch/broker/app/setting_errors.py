"""Describes in one line what is wrong with a setting."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError


def describe(error: ValueError | OSError) -> str:
    """One line: what is wrong with the settings, or with the ``.env`` file that they were read from."""
    match error:
        case ValidationError():
            return _wrong_settings(error)
        case UnicodeError():
            return f"{Path('.env').absolute()} is not UTF-8: save it as UTF-8"
        case OSError():
            return f"{Path('.env').absolute()} can't be read: {error.strerror}"
        case _:
            return " ".join(str(error).split())


def _wrong_settings(error: ValidationError) -> str:
    """Each wrong setting, what is wrong with it and, unless it may be secret, its value."""
    lines = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"][:1])
        message = item["msg"].removeprefix("Value error, ").removeprefix(field).removeprefix(":").lstrip()
        own_words = item["type"] == "value_error"
        shown = (
            ""
            if own_words or item["type"] == "missing" or field == "redis_url"
            else f", not {item['input']!r}"
        )
        lines.append(f"{field}: {message}{shown}")
    return "; ".join(lines)
