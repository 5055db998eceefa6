"""The tables in docs/values.md: each value arrives as they say."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr

from microbatch.broker.wire.codec import Decoder, encode

PAGE = (Path(__file__).parents[2] / "docs" / "values.md").read_text()
ROWS = re.findall(r"^\| `(.+?)` \| `(.+?)` \|", PAGE, flags=re.MULTILINE)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Click:
    page: str
    at: datetime | None = None


class Base(BaseModel):
    x: int = 1


class Sub(Base):
    y: int = 2


class Holder(BaseModel):
    base: Base


class Letter(BaseModel):
    size: float


OF_PYTHON = (Decimal, Path, SecretStr, UUID, datetime, timedelta, timezone)
NAMES = {named.__name__: named for named in (*OF_PYTHON, Click, Colour, Holder, Letter, Sub)} | {"UTC": UTC}


@pytest.mark.parametrize(("value", "arrives"), ROWS, ids=[row[0] for row in ROWS])
def test_a_value_arrives_as_the_page_says(value: str, arrives: str) -> None:
    found = Decoder(object).one(encode(eval(value, dict(NAMES))))  # noqa: S307 - the page is ours
    assert repr(found) == arrives


def test_the_page_has_rows() -> None:
    assert len(ROWS) == 20
