"""The head of a script: what it calls its keys and arguments, and how many it takes.

Each key and argument has a line, in order, with its name and, after two spaces, what it is. There are four
kinds of lines:

    -- KEYS[1] batch     list    one key
    -- KEYS[4]? jobs     list    one that may be left out, together with all others of this kind
    -- KEYS[5..] batch   list    all that follow, any number of them
    -- ARGV[5..] id, header, record, size    all that follow, any number of these four

The names of the first two kinds are locals in the script's body. There is at most one line of each of the
last two kinds. Its names are not locals, because their number is known only when the script is called.
`KEYS_FROM` or `ARGV_FROM` is the index of the first of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import takewhile

_BEGINS = re.compile(r"-- *(KEYS|ARGV)\b")
_NAMES = r"(?:\](?P<optional>\?)? (?P<name>[a-z_]+)|\.\.\] (?P<tail>[a-z_]+(?:, [a-z_]+)*))"
_LINE = re.compile(rf"-- (?:KEYS|ARGV)\[(?P<place>\d+){_NAMES}(?: {{2,}}\S.*)?")
_WORDS = """
    and break do else elseif end false for function if in local nil not or repeat return then true until while
    assert bit cjson cmsgpack error getmetatable ipairs load loadstring math next pairs pcall rawequal rawget
    rawset redis select server setmetatable string struct table tonumber tostring type unpack xpcall
"""
_TAKEN = frozenset(_WORDS.split())
"""Names that already have a meaning in a script."""


@dataclass(frozen=True, slots=True)
class Operands:
    """The keys of a script, or its arguments."""

    table: str
    """KEYS or ARGV."""
    names: tuple[str, ...] = ()
    optional: int = 0
    """How many of the last names may be left out, all together."""
    tail: tuple[str, ...] = ()
    """The names in each group that follows them, any number of times."""

    def allow(self, given: int) -> bool:
        """Whether a call may give this many."""
        more = given - len(self.names)
        if self.tail:
            return more >= 0 and more % len(self.tail) == 0
        return more in (0, -self.optional)

    def as_locals(self) -> str:
        """The lines that make the names locals in a script's body."""
        lines = ""
        if self.names:
            places = (f"{self.table}[{place}]" for place, _ in enumerate(self.names, 1))
            lines += f"local {', '.join(self.names)} = {', '.join(places)}\n"
        if self.tail:
            lines += f"local {self.table}_FROM = {len(self.names) + 1}\n"
        return lines


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a script."""

    text: str
    keys: Operands
    args: Operands


def read_head(name: str, text: str) -> Head:
    """The head of the script ``name``: the comment that ``text`` begins with.

    Raises:
        ValueError: the head can't be read. The message says in one line what is wrong with it.
    """
    lines = list(takewhile(lambda line: line.startswith("--"), text.splitlines(keepends=True)))
    if not lines or not lines[0].startswith(f"-- {name}: "):
        raise ValueError(f"{name}.lua does not begin with '-- {name}: ' and what it does")
    operands = {"KEYS": Operands("KEYS"), "ARGV": Operands("ARGV")}
    for line in lines:
        begun = _BEGINS.match(line)
        if begun is None:
            continue
        try:
            operands[begun[1]] = _with_line(operands[begun[1]], line.rstrip())
        except ValueError as error:
            raise ValueError(f"{name}.lua: {error}: {line.strip()}") from None
    keys, args = operands.values()
    if both := {*keys.names} & {*args.names}:
        raise ValueError(f"{name}.lua: a key and an argument have one name: {min(both)}")
    return Head("".join(lines), keys, args)


def _with_line(so_far: Operands, line: str) -> Operands:
    """The keys or arguments up to this line."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("not a line for a key or an argument")
    names, is_optional = (found["name"] or found["tail"]).split(", "), found["optional"] is not None
    if so_far.tail or int(found["place"]) != len(so_far.names) + 1:
        raise ValueError("out of order")
    if so_far.optional and not is_optional:
        raise ValueError("what may be left out comes last")
    for name in names:
        if name in _TAKEN or name in so_far.names:
            raise ValueError(f"{name} has a meaning already")
    if found["tail"]:
        return replace(so_far, tail=tuple(names))
    return replace(so_far, names=(*so_far.names, *names), optional=so_far.optional + is_optional)
