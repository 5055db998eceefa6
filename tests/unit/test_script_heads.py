"""The heads of scripts: the names of keys and arguments, and how many of each a call may pass."""

from __future__ import annotations

import re

import pytest

from microbatch.broker.lua.head import read_head
from microbatch.broker.lua.scripts import Script
from tests.wiretap import SCRIPTS

GOOD = """\
-- move: move what is there.
--
-- KEYS[1] here   list  where it is
-- KEYS[2]? near  list  both that follow, or neither
-- KEYS[3]? far   list
-- ARGV[1] most   of them
-- ARGV[2..] id, score    of each
--
-- Returns nothing. O(1).
"""
BODY = "return KEYS[1]\n-- a comment\n"

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def body_of(script: Script) -> str:
    """The script after its head and after the names that the loader inserts."""
    head = script.text[script.text.index(f"-- {script.name}: ") :]
    body = re.sub(r"\A(?:--.*\n)*", "", head)
    names = script.keys.as_locals() + script.args.as_locals()
    assert body.startswith(names)
    return body.removeprefix(names)


def test_it_gives_names_to_keys_and_arguments() -> None:
    head = read_head("move", GOOD + BODY)
    assert head.text == GOOD
    assert head.keys.as_locals() == "local here, near, far = KEYS[1], KEYS[2], KEYS[3]\n"
    assert head.args.as_locals() == "local most = ARGV[1]\nlocal ARGV_FROM = 2\n"


def test_it_tells_how_many_a_call_may_give() -> None:
    head = read_head("move", GOOD + BODY)
    assert [given for given in range(9) if head.keys.allow(given)] == [1, 3]
    assert [given for given in range(9) if head.args.allow(given)] == [1, 3, 5, 7]
    bare = read_head("move", "-- move: nothing.\n")
    assert bare.args.allow(0)
    assert not bare.args.allow(1)
    assert bare.args.as_locals() == ""


@pytest.mark.parametrize(
    ("line", "instead", "told"),
    [
        ("-- move: ", "-- remove: ", "move.lua does not begin with '-- move: ' and what it does"),
        ("] here  ", "] Here  ", "move.lua: not a line for a key or an argument: -- KEYS[1] Here   list"),
        ("most   of", "most of", "move.lua: not a line for a key or an argument: -- ARGV[1] most of them"),
        ("-- ARGV[1]", "--  ARGV[1]", "move.lua: not a line for a key or an argument: --  ARGV[1] most"),
        ("[1] most", "[1] most, least", "move.lua: not a line for a key or an argument: -- ARGV[1] most, l"),
        ("[2..] id", "[2..]? id", "move.lua: not a line for a key or an argument: -- ARGV[2..]? id, score"),
        ("KEYS[3]", "KEYS[4]", "move.lua: out of order: -- KEYS[4]? far   list"),
        ("ARGV[1]", "ARGV[1..]", "move.lua: out of order: -- ARGV[2..] id, score    of each"),
        ("[3]? far ", "[3] far  ", "move.lua: what may be left out comes last: -- KEYS[3] far    list"),
        ("near", "next", "move.lua: next has a meaning already: -- KEYS[2]? next  list  both"),
        ("near", "here", "move.lua: here has a meaning already: -- KEYS[2]? here  list  both"),
        ("most", "here", "move.lua: a key and an argument have one name: here"),
    ],
)
def test_an_invalid_head_is_reported_in_one_line(line: str, instead: str, told: str) -> None:
    wrong = GOOD.replace(line, instead)
    assert wrong != GOOD
    with pytest.raises(ValueError, match=f"^{re.escape(told)}") as raised:
        read_head("move", wrong + BODY)
    assert "\n" not in str(raised.value)


@every_script
def test_a_body_uses_the_names_of_its_keys_and_arguments(script: Script) -> None:
    assert re.findall(r"(?:KEYS|ARGV)\[\d+\]", body_of(script)) == []


@every_script
def test_no_name_is_given_to_something_else(script: Script) -> None:
    shared = script.text[: script.text.index(f"-- {script.name}: ")]
    body, names = body_of(script), {*script.keys.names, *script.args.names}
    functions = {*re.findall(r"^local function (\w+)", shared, re.MULTILINE)}
    lists = re.findall(r"\blocal ([\w, ]+?)(?: =|$)|\bfor ([\w, ]+?) (?:in|=) ", body, re.MULTILINE)
    lists += re.findall(r"\bfunction (\w*)\(([^)]*)\)", body)
    given = {name for names in lists for part in names for name in part.split(", ")}
    assert given & (names | functions) == set()
    assert names & functions == set()


@every_script
def test_it_is_put_behind_the_shared_functions_that_it_calls_and_no_others(script: Script) -> None:
    shared, own = script.text.split(f"-- {script.name}: ")
    functions = re.findall(r"^local function (\w+)", shared, re.MULTILINE)
    called = re.findall(r"(?<!function )\b(\w+)\(", shared + own)
    assert [name for name in functions if name not in called] == []
    assert "KEYS" not in shared
    assert "ARGV" not in shared
