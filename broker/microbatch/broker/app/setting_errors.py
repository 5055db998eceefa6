"""Describes in one line what is wrong with a setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from microbatch.broker.errors import ConfigError


def refuse_unknown(names: Iterable[str], known: Sequence[str]) -> None:
    """Raises ConfigError if a setting's name is not known. Names that begin with "_" are skipped."""
    for name in names:
        if not name.startswith("_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"there is no setting {name!r}{hint}")


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
