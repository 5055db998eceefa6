"""The lists of keys and scripts in docs/architecture.md match the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from microbatch.broker.lua import scripts
from microbatch.broker.lua.head import read_head
from microbatch.broker.lua.scripts import Script
from microbatch.broker.state.keys import Keys
from microbatch.broker.wire.fields import REPEATABLE, Tag

ROOT = Path(__file__).parents[2]
SCRIPTS = [script for script in vars(scripts).values() if isinstance(script, Script)]
KEYS = Keys("mb", "letters")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without the table's header."""
    text = (ROOT / "docs" / "architecture.md").read_text().partition(f"\n## {heading}\n")[2]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_keys() -> None:
    kinds = {"zset": "sorted set"}
    types = {key.removeprefix("mb:{letters}:"): kinds.get(kind, kind) for key, kind in KEYS.types().items()}
    told = {name: row[1] for row in table("Keys") for name in names(row[0])}
    assert told == {**types, "batch:<id>": "list", "quarantine:<what>": "any", "reply:<client>": "stream"}


def test_the_scripts() -> None:
    told = [name for row in table("The scripts") for name in names(row[0])]
    files = [path.stem for path in (ROOT / "broker/microbatch/broker/lua").glob("*.lua")]
    assert sorted(told) == sorted(files) == sorted(script.name for script in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_opens_with_its_keys_arguments_result_and_cost(script: Script) -> None:
    own = script.text[script.text.index(f"-- {script.name}: ") :]  # after the shared functions
    head = read_head(script.name, own)
    assert head.keys == script.keys
    assert head.keys.names or head.keys.tail
    assert head.args == script.args
    assert re.search(r"\bReturns\b", head.text)
    assert re.search(r"\bO\(", head.text)


def test_the_fields_of_an_event() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([A-Za-z])` \|.*\| (yes|no)\b[^|]*\|$", text, re.MULTILINE)
    assert [letter for letter, _ in rows] == list(Tag)
    assert {letter for letter, repeated in rows if repeated == "yes"} == REPEATABLE
