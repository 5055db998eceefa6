"""Makes text plain: without characters that control a terminal.

Errors quote events, and names come from the server, so a text may contain anything. A character that could
move the cursor, change colours, or begin or reorder a line is replaced by its code.
"""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # between letters of several scripts, and in emoji
_HARMLESS = frozenset({"Zs", "Cn", "Co"})  # spaces, and characters that are newer than Python or private


def plain(text: str) -> str:
    """The text with every character that is not plain replaced by its code, except newlines and tabs."""
    if text.isprintable():
        return text
    return "".join(char if is_plain(char) or char in "\n\t" else _code(char) for char in text)


def is_plain(char: str) -> bool:
    """Whether a terminal only shows the character."""
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) in _HARMLESS


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
