"""Durations in settings: a number of seconds, or a number with a unit, as in ``"30d"``."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")
_HELP = "write a number of seconds, or a text such as '45s', '10m', '12h' or '7d'"


def read_duration(value: object) -> object:
    """Convert a text such as ``"45s"``, ``"10m"``, ``"12h"``, ``"7d"`` or ``"600"`` to seconds.

    Values that are not texts are returned unchanged, so that pydantic checks them as numbers.

    Raises:
        ValueError: the text is not a duration, or the value is a boolean.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration; {_HELP}")
    if not isinstance(value, str):
        return value
    match = _TEXT.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a duration; {_HELP}")
    number, unit = match.groups()
    return float(number) * _UNITS[unit or "s"]


def duration_text(seconds: float) -> str:
    """The duration as a setting accepts it, in the largest unit that divides it: ``"30d"``, ``"90s"``."""
    for unit, length in _UNITS.items():
        if seconds and seconds % length == 0:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[float, BeforeValidator(read_duration), Field(allow_inf_nan=False)]
"""A setting's type: seconds as a float. It accepts a number of seconds, or a text that `read_duration` reads.

A setting adds its own bounds: ``Annotated[Duration, Field(gt=0, le=…, description=…)]``.
"""
