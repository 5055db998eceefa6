"""Writes modules.md, a sentence for each module, from their docstrings. Run it after a module has changed:

python docs/modules.py
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("modules.md")
ROOTS = ("broker", "producer", "scheduler", "worker", "ops")
HEAD = """\
# Modules

Every module in one sentence, package by package. `docs/modules.py` writes this page from the docstrings.
[Architecture](architecture.md#the-house) shows how the packages depend on each other.
"""


def page() -> str:
    """The page as it has to be."""
    return HEAD + "".join(_section(folder) for root in ROOTS for folder in _packages(root))


def _packages(root: str) -> list[Path]:
    top = ROOT / root / "microbatch" / root
    return [top, *sorted(path.parent for path in top.glob("*/__init__.py"))]


def _section(folder: Path) -> str:
    modules = sorted(path for path in folder.glob("*.py") if path.stem != "__init__")
    name = ".".join(folder.relative_to(ROOT).parts[1:])
    rows = "".join(f"| `{path.stem}` | {sentence(path)} |\n" for path in modules)
    return f"\n## {name}\n\n{sentence(folder / '__init__.py')}\n\n| module | what it is |\n|---|---|\n{rows}"


def sentence(path: Path) -> str:
    """The first paragraph of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return re.sub(r"\s+", " ", text.partition("\n\n")[0]).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
