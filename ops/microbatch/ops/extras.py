"""The extras: optional parts of Microbatch."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """The command that installs an extra, from an index or in a checkout."""
    return f"`pip install 'microbatch[{extra}]'`, or `pip install '.[{extra}]'` in a checkout"
