"""What a command is about: an app, or, where no code of the user's is needed, just a batcher's name."""

from __future__ import annotations

import os

from microbatch.broker.app import load_config
from microbatch.broker.config import Config


def is_app(target: str) -> bool:
    """Whether ``target`` names an app: by a colon, a path, or a ``.py`` file. A bare word is a name."""
    return ":" in target or target.endswith(".py") or os.sep in target


def load_target(target: str) -> Config:
    """The Config of an app, or one of the name alone, with the settings of the environment.

    Raises:
        AppError: the app can't be loaded.
        ConfigError: it is no name for a batcher.
    """
    return load_config(target) if is_app(target) else Config(name=target)
