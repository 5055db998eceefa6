"""An app: where the commands find a batcher's Config.

Named ``module:attribute`` or ``file.py[:attribute]``. Without an attribute it is the module's one Config.
The current folder is on the import path, and for a file its own folder too, as with other Python servers.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from microbatch.broker.config import Config
from microbatch.broker.errors import AppError, MicrobatchError

ENVIRONMENT_VARIABLE = "MICROBATCH_APP"
_HOW = "name a module or a file, as letters:config or letters.py"


def load_config(app: str) -> Config:
    """The Config that ``app`` names.

    Raises:
        AppError: the module can't be imported, has no Config or several, or the attribute is none.
    """
    target, attribute = _split(app)
    if not _is_file(target) and "" in target.split("."):
        raise AppError(f"{app!r} names no app; {_HOW}")
    module = _import_file(Path(target)) if _is_file(target) else _import_module(target)
    if attribute:
        value = getattr(module, attribute, None)
        if not isinstance(value, Config):
            found = "there is none" if value is None else f"it is a {type(value).__name__}"
            raise AppError(f"{app}: {attribute!r} must be a Config, but {found}")
        return value
    configs = {id(value): name for name, value in vars(module).items() if isinstance(value, Config)}
    if not configs:
        raise AppError(f"{app} has no Config; make one at the top level: config = Config(name=..., ...)")
    if len(configs) > 1:
        names = ", ".join(sorted(configs.values()))
        raise AppError(f"{app} has several Configs ({names}); say which: {target}:{min(configs.values())}")
    (name,) = configs.values()
    config: Config = getattr(module, name)
    return config


def load_config_from_environment() -> Config:
    """The Config that the environment's ``MICROBATCH_APP`` names. Raises AppError if it is not set."""
    app = os.environ.get(ENVIRONMENT_VARIABLE)
    if not app:
        raise AppError(
            f"{ENVIRONMENT_VARIABLE} is not set: set it to the app whose batches to run, as letters:config"
        )
    return load_config(app)


def app_file(app: str) -> Path | None:
    """The file of an app that is named by its file, or None for a module."""
    target, _ = _split(app)
    return Path(target) if _is_file(target) else None


def _split(app: str) -> tuple[str, str]:
    target, _, attribute = app.partition(":")
    return target, attribute


def _is_file(target: str) -> bool:
    return target.endswith(".py") or os.sep in target


def _import_module(name: str) -> ModuleType:
    _put_on_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except MicrobatchError as error:
        raise AppError(f"{name}: {error}") from error
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise AppError(f"there is no module {name!r} here; {_HOW}") from error
        raise AppError(f"{name} can't be imported: {error}") from error
    except Exception as error:
        raise AppError(f"{name} can't be imported: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise AppError(f"there is no file {str(path)!r}")
    _put_on_path(Path.cwd())
    _put_on_path(path.resolve().parent)
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path.resolve()):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise AppError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        detail = str(error) if isinstance(error, MicrobatchError) else f"{type(error).__name__}: {error}"
        raise AppError(f"{path} can't be imported: {detail}") from error
    return module


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
