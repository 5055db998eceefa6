"""The import of an app's module, by its name or by its file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from microbatch.broker.app.hints import hint, is_in, where, why_unreadable
from microbatch.broker.app.importing import importing
from microbatch.broker.errors import AppError, MicrobatchError

HOW = "name a module or a file, as letters:config or letters.py"

_files: set[str] = set()  # names of the modules that were imported by their files


def import_named(name: str, attribute: str) -> ModuleType:
    """Import the module of this name. Raises AppError if it can't be imported."""
    here = _current_folder()
    _refuse_hiding(here)
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        raise AppError(_taken(top, here if is_in(here, top) else None))
    _put_on_path(here)
    try:
        with importing(name):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise AppError(_no_module(name, here)) from error
        raise AppError(_cannot(name, error, here / f"{name.replace('.', '/')}.py", attribute)) from error
    except (Exception, SystemExit) as error:
        raise AppError(_cannot(name, error, here / f"{name.replace('.', '/')}.py", attribute)) from error
    if getattr(module, "__file__", None) is None and (unreadable := why_unreadable(here, top)):
        raise AppError(f"{name} can't be imported: {unreadable}")  # Python made it a namespace package
    _refuse_another(top, here)
    return module


def import_file(path: Path, attribute: str) -> ModuleType:
    """Import the module in this file, under the file's name. Raises AppError if it can't be imported."""
    here = _current_folder()
    _refuse_no_file(path)
    file = path.resolve()
    _refuse_hiding(here)
    _refuse_hiding(file.parent)
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    if name in sys.stdlib_module_names:
        raise AppError(_taken(name, path.parent))
    if loaded is not None and name not in _files:
        raise AppError(_hidden(name, path, loaded))
    _put_on_path(here)
    _put_on_path(file.parent)
    return _execute(name, path, file, attribute)


def _execute(name: str, path: Path, file: Path, attribute: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise AppError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are resolved there
    _files.add(name)
    try:
        with importing(str(path)):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise AppError(_cannot(str(path), error, file, attribute)) from error
    return module


def _cannot(app: str, error: BaseException, file: Path, attribute: str) -> str:
    """Why an app can't be imported, in one line."""
    detail = str(error)
    if isinstance(error, SystemExit):
        detail = (
            f"it ends the program (exit code {error.code}) while it is imported; "
            'put the program under `if __name__ == "__main__":`'
        )
    elif not isinstance(error, MicrobatchError):
        detail = f"{type(error).__name__}: {error}"
    advice = hint(error, file, attribute)
    return f"{app} can't be imported: {detail}{f'; {advice}' if advice else ''}"


def _no_module(name: str, here: Path) -> str:
    parent, _, last = name.rpartition(".")
    if parent and hasattr(sys.modules.get(parent), last):
        return f"there is no module {name!r} here; did you mean {parent}:{last}?"
    top = name.partition(".")[0]
    if unreadable := why_unreadable(here, top):
        return f"there may be a module {name!r}, but {unreadable}"
    there = "" if is_in(here, top) else where(top, here, here)
    return f"there is no module {name!r} here; {there or HOW}"


def _refuse_no_file(path: Path) -> None:
    try:
        if path.is_file():
            return
        named = path.with_name(f"{path.name}.py")
        other = f"; did you mean {str(named)!r}?" if path.name and named.is_file() else ""
    except OSError as error:
        raise AppError(f"{path} can't be read: {error.strerror}") from None
    raise AppError(f"there is no file {str(path)!r}{other}")


def _refuse_hiding(folder: Path) -> None:
    """Raises AppError if programs in this folder would import the folder's ``microbatch`` instead of ours."""
    for hiding in (folder / "microbatch.py", folder / "microbatch" / "__init__.py"):
        if _is_file(hiding):
            raise AppError(f"{hiding} hides the package microbatch from the programs there; rename it")


def _is_file(path: Path) -> bool:
    """Whether it is a file, as far as this user can see."""
    try:
        return path.is_file()
    except OSError:
        return False


def _refuse_another(top: str, here: Path) -> None:
    """Raises AppError if the current folder has this module, and another one was imported."""
    loaded = sys.modules.get(top)
    found = getattr(loaded, "__file__", None)
    if loaded is None or found is None or not Path(found).is_file():
        return
    for path in (here / f"{top}.py", here / top / "__init__.py"):
        if _is_file(path) and not path.samefile(found):
            raise AppError(_hidden(top, path, loaded))


def _hidden(name: str, path: Path, loaded: ModuleType) -> str:
    other = getattr(loaded, "__file__", None) or "the interpreter"
    return f"{path} has the name of the module {name!r} that is imported from {other}; rename it"


def _taken(name: str, folder: Path | None) -> str:
    if folder is None:
        return f"{name!r} is a module of Python's own library and has no Config; {HOW}"
    return f"{folder / name}.py has the name of a module of Python's own library; rename it"


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise AppError(f"the current folder can't be used ({error.strerror}); go to another one") from None


def _put_on_path(folder: Path) -> None:
    """Add the folder after Python's own library: redis-py must not import a ``random.py`` from the folder."""
    if str(folder) in sys.path:
        return
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    own |= {os.path.join(path, "lib-dynload") for path in own}  # noqa: PTH118 - as it is written in sys.path
    last = max((place for place, path in enumerate(sys.path) if path in own), default=-1)
    sys.path.insert(last + 1, str(folder))
