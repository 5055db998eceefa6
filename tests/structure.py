"""The sizes of modules, classes and functions: ``python -m tests.structure`` fails above the limits."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOTS = sorted(path.parent.name for path in ROOT.glob("*/microbatch"))
MODULE_LINES = 250
CLASS_METHODS = 15
FUNCTION_LINES = 17
"""The limit for nine functions in ten."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Sized = tuple[int, str]


def modules() -> Iterator[tuple[str, str]]:
    """The path and the text of each module."""
    for root in ROOTS:
        for path in sorted((ROOT / root).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def main() -> int:
    """Print the largest of each kind. Returns 1 if one exceeds its limit."""
    lines: list[Sized] = []
    methods: list[Sized] = []
    functions: list[Sized] = []
    for path, text in modules():
        lines.append((text.count("\n"), path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                methods.append(
                    (sum(isinstance(part, _FUNCTIONS) for part in node.body), f"{path} {node.name}")
                )
            elif isinstance(node, _FUNCTIONS):
                functions.append(((node.end_lineno or node.lineno) - node.lineno + 1, f"{path} {node.name}"))
    p90 = sorted(functions)[len(functions) * 9 // 10]
    found = [
        ("lines of the longest module", max(lines), MODULE_LINES),
        ("methods of the broadest class", max(methods), CLASS_METHODS),
        ("lines of nine functions in ten", p90, FUNCTION_LINES),
    ]
    for what, (size, where), bound in found:
        sys.stdout.write(f"{what}: {size}, at most {bound} ({where})\n")
    return int(any(size > bound for _, (size, _), bound in found))


if __name__ == "__main__":
    sys.exit(main())
