"""A terminal is shown nothing that it would act upon."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest

from microbatch.broker.process.log_format import LogFormatter
from microbatch.broker.process.plain import plain
from microbatch.ops.views.dead import beginnings
from microbatch.ops.views.json_lines import json_line

HOSTILE = {
    "\x1b[2J": r"\x1b[2J",  # clears the screen
    "\x9b31m": r"\x9b31m",  # the same command in one character
    "\x85": r"\x85",  # the next line, on terminals that take it for that
    "\r": r"\r",
    "\x07": r"\x07",
    "\x08": r"\x08",
    "\x7f": r"\x7f",
    "\x0b": r"\x0b",
    "\x0c": r"\x0c",
    "\u202e": r"\u202e",  # the following text runs from right to left
    "\u2066": r"\u2066",
    "\u200f": r"\u200f",
    "\u2028": r"\u2028",
    "\u2029": r"\u2029",
    "\ufeff": r"\ufeff",
    "\u00ad": r"\xad",
    "\ud800": r"\ud800",
    "\U000e0041": r"\U000e0041",  # an invisible tag
}
HARMLESS = [
    "",
    "a b",
    "niño",
    "日本\u3000語",
    "ab\u00a0c",
    "👩\u200d💻",
    "न\u200cद",
    "a\tb\nc",
    "\ue000",
    "\U000e0fff",
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items(), ids=map(ascii, HOSTILE))
def test_what_a_terminal_acts_upon_is_shown_by_its_code(text: str, shown: str) -> None:
    assert plain(f"a{text}b") == f"a{shown}b"


@pytest.mark.parametrize("text", HARMLESS, ids=map(ascii, HARMLESS))
def test_what_a_terminal_only_shows_is_unchanged(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize("text", [*HOSTILE, *HARMLESS], ids=map(ascii, [*HOSTILE, *HARMLESS]))
def test_json_means_the_same_and_is_plain(text: str) -> None:
    line = json_line({"a": [f"x{text}", 1]}).decode()
    assert json.loads(line) == {"a": [f"x{text}", 1]}
    assert plain(line) == line
    assert "\n" not in line


def test_a_log_is_plain_and_its_times_have_a_zone() -> None:
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, "%s says %s", ("a", "\x1b[31m"), None)
    record.created = 1_700_000_000.25
    day, time, rest = LogFormatter().format(record).split(" ", 2)
    assert datetime.fromisoformat(f"{day} {time}") == datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC)
    assert rest == r"WARNING a says \x1b[31m"


def test_ids_are_shown_as_far_as_they_differ() -> None:
    ids = ["0123456789", "0123456788", "99999999999", "01234567"]
    assert beginnings(ids) == ["0123456789", "0123456788", "99999999", "01234567"]
    assert beginnings([]) == []
    assert beginnings(["0123456789"]) == ["01234567"]
