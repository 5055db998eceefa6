"""Hints for an app that can't be imported: where the missing module is, and how to name the app."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_LEVELS_UP = 4


def hint(error: BaseException, file: Path, attribute: str) -> str:
    """What to do about an error that an app's import raised; empty if nothing is known.

    Args:
        error: what was raised.
        file: the app's file.
        attribute: the attribute in the app's name; empty if it has none.
    """
    if isinstance(error, ImportError) and "relative import" in str(error):
        return _as_part_of_its_package(file, attribute)
    name = _module_of(error)
    if not name:
        return ""
    if name in sys.stdlib_module_names:
        folder = next((folder for folder in (file.parent, Path.cwd()) if is_in(folder, name)), None)
        return f"{name!r} in {folder} has the name of Python's own module; rename it" if folder else ""
    return where(name, Path.cwd(), file.parent) if isinstance(error, ModuleNotFoundError) else ""


def where(name: str, here: Path, folder: Path) -> str:
    """Where the module ``name`` is, if it is near but not on the import path; otherwise empty."""
    above = [folder, *folder.parents[:_LEVELS_UP]]
    for place in (here / "src", *(near for base in above for near in (base, base / "src"))):
        if str(place) not in sys.path and is_in(place, name):
            return f"{name!r} is in {place}: start the command there, or set PYTHONPATH={place}"
    return ""


def why_unreadable(here: Path, name: str) -> str:
    """Why this user can't see whether a module is in the current folder; empty if the user can."""
    for path, needed in (
        (here, os.R_OK | os.X_OK),
        (here / name, os.R_OK | os.X_OK),
        (here / f"{name}.py", os.R_OK),
    ):
        exists, readable = (os.access(path, mode, effective_ids=True) for mode in (os.F_OK, needed))
        if exists and not readable:
            return f"the user {os.geteuid()} can't read {path}: `chmod -R a+rX {path}` lets everybody do it"
    return ""


def is_in(folder: Path, name: str) -> bool:
    """Whether a module or package of this name is in the folder."""
    try:
        return (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py"))
    except OSError:
        return False  # nothing can be imported from a folder that can't be read


def _module_of(error: BaseException) -> str:
    """The top-level module that could not be imported, or that lacks an attribute; empty if not known."""
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0]
    if isinstance(error, AttributeError):
        return str(getattr(error.obj, "__name__", "")).partition(".")[0]
    return ""


def _as_part_of_its_package(file: Path, attribute: str) -> str:
    root, parts = file.parent.parent, [file.parent.name, file.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    name = f"{'.'.join(parts)}:{attribute or 'config'}"
    return (
        f"name it as a part of its package: {name}{'' if root == Path.cwd() else f', in the folder {root}'}"
    )
