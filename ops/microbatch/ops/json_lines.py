"""Lines of JSON, for other programs to read."""

from __future__ import annotations

from pydantic_core import to_json


def json_line(value: object) -> bytes:
    """The value as JSON on one line, without its end.

    NaN and the infinities, which travel as such but which JSON has no words for, are null.
    """
    return to_json(value, inf_nan_mode="null")
