"""What is wrong with settings, in one line for the person who made them."""

from __future__ import annotations

from pydantic import ValidationError


def describe(error: ValidationError) -> str:
    """One line: each wrong setting, what is wrong with it and, unless it may be secret, its value."""
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
