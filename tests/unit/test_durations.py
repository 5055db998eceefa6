"""Durations: the value of each text, and what is refused."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from microbatch.broker.app.durations import Duration, duration_text

_setting = TypeAdapter[float](Annotated[Duration, Field(gt=0, le=1_000_000)])
_any = TypeAdapter[float](Duration)
_optional = TypeAdapter[float | None](Annotated[Duration | None, Field(gt=0, le=1_000_000)])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("45s", 45.0),
        ("10m", 600.0),
        ("12h", 43_200.0),
        ("7d", 604_800.0),
        ("1.5h", 5_400.0),
        ("0.25s", 0.25),
        ("600", 600.0),
        ("0.5", 0.5),
        (" 2m ", 120.0),
        (600, 600.0),
        (0.5, 0.5),
    ],
)
def test_what_a_duration_stands_for(value: object, seconds: float) -> None:
    assert _setting.validate_python(value) == seconds
    assert _optional.validate_python(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "s", "10 weeks", "1d12h", "-1s", "1e3", "1_000", "inf", "nan", ".5s", "5.", "٣s", "1S", "0x10"],
)
def test_a_text_that_is_no_duration_is_refused_and_told_how_to_write_one(value: str) -> None:
    with pytest.raises(ValidationError, match="is not a duration; write a number of seconds"):
        _setting.validate_python(value)


@pytest.mark.parametrize(
    "value",
    [True, False, float("inf"), float("nan"), None, [], b"\xff", 0, "0s", -1, "12d", 1_000_001, "9" * 400],
)
def test_what_is_no_number_or_out_of_bounds_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        _setting.validate_python(value)


def test_a_setting_may_be_absent() -> None:
    assert _optional.validate_python(None) is None
    with pytest.raises(ValidationError):
        _optional.validate_python("0s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2_592_000, "30d"), (43_200, "12h"), (5_400, "90m"), (90, "90s"), (0.5, "0.5s"), (0, "0s"), (1.0, "1s")],
)
def test_a_duration_is_shown_as_a_setting_takes_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
    assert _any.validate_python(text) == seconds
