"""Loads an app: the module in which the commands find a batcher's Config.

An app is named ``module:attribute`` or ``file.py[:attribute]``. Without an attribute it is the module's only
Config. The current folder is on the import path, and for a file its own folder too. Both come after Python's
own library and before installed packages.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from microbatch.broker.app.app_import import HOW, import_file, import_named
from microbatch.broker.app.config import Config
from microbatch.broker.errors import AppError
from microbatch.broker.process.loggers import keep_loggers

ENVIRONMENT_VARIABLE = "MICROBATCH_APP"


def load_config(app: str) -> Config:
    """The Config that ``app`` names.

    Raises:
        AppError: the module can't be imported, has no Config or several, or the attribute is not a Config.
    """
    target, attribute = _split(app)
    if not _is_file(target) and "" in target.split("."):
        raise AppError(f"{app!r} names no app; {HOW}")
    try:
        module = import_file(Path(target), attribute) if _is_file(target) else import_named(target, attribute)
    finally:
        keep_loggers()
    return _named(app, module, attribute) if attribute else _only_one(app, module)


def load_config_from_environment() -> Config:
    """The Config that ``MICROBATCH_APP`` in the environment names. Raises AppError as `load_config` does, and
    if the variable is not set."""
    app = os.environ.get(ENVIRONMENT_VARIABLE)
    if not app:
        raise AppError(
            f"{ENVIRONMENT_VARIABLE} is not set: set it to the app whose batches to run, as letters:config"
        )
    return load_config(app)


def app_file(app: str) -> Path | None:
    """The file of an app that is named by its file; None for a module."""
    target, _ = _split(app)
    return Path(target) if _is_file(target) else None


def _named(app: str, module: ModuleType, attribute: str) -> Config:
    value = getattr(module, attribute, None)
    if not isinstance(value, Config):
        found = "there is none" if value is None else f"it is a {type(value).__name__}"
        raise AppError(f"{app}: {attribute!r} must be a Config, but {found}")
    return value


def _only_one(app: str, module: ModuleType) -> Config:
    configs = {id(value): name for name, value in vars(module).items() if isinstance(value, Config)}
    if not configs:
        raise AppError(f"{app} has no Config; make one at the top level: config = Config(name=..., ...)")
    if len(configs) > 1:
        names = ", ".join(sorted(configs.values()))
        target = app.removesuffix(":")
        raise AppError(f"{app} has several Configs ({names}); say which: {target}:{min(configs.values())}")
    (name,) = configs.values()
    config: Config = getattr(module, name)
    return config


def _split(app: str) -> tuple[str, str]:
    target, _, attribute = app.partition(":")
    return target, attribute


def _is_file(target: str) -> bool:
    return target.endswith(".py") or os.sep in target
