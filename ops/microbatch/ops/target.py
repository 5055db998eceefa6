"""What a command is about: an app, or a batcher's name."""

from __future__ import annotations

import os
from typing import Literal

from microbatch.broker.app.config import Config
from microbatch.broker.app.loading import load_config
from microbatch.broker.broker import Broker
from microbatch.broker.errors import MicrobatchError
from microbatch.broker.state.batchers import is_used
from microbatch.ops.views.terminal import say

Unused = Literal["refused", "told", "allowed"]


class UnknownBatcher(MicrobatchError):
    """Nobody has ever used a batcher of this name: it is probably mistyped."""


def is_app(target: str) -> bool:
    """Whether ``target`` names an app: by a colon, a path, or a ``.py`` file. A bare word is a name."""
    return ":" in target or target.endswith(".py") or os.sep in target


def load_target(target: str) -> Config:
    """The Config of an app, or one of the name alone, with the settings of the environment.

    Raises:
        AppError: the app can't be loaded.
        ConfigError: it is not a name for a batcher.
    """
    return load_config(target) if is_app(target) else Config(name=target)


def reach(target: str, *, unused: Unused, otherwise: str = "") -> Broker:
    """The batcher's verbs; its server was reached and can be used.

    Anybody can mistype a bare name. ``unused`` says what becomes of one that nobody has ever used: "refused"
    raises UnknownBatcher, whose message ends with ``otherwise``; "told" writes one line on standard error;
    "allowed" does not look.

    Raises also as `load_target` does, and ServerError.
    """
    broker = Broker(load_target(target))
    broker.server.check_version()
    if unused == "allowed":
        return broker
    try:
        check_used(target, broker)
    except UnknownBatcher as error:
        if unused == "refused":
            raise UnknownBatcher(f"{error}{otherwise}") from None
        say(f"microbatch: warning: {error}", err=True)
    return broker


def check_used(target: str, broker: Broker) -> None:
    """Raises UnknownBatcher if ``target`` is a bare name that nobody has ever used."""
    if not is_app(target) and not is_used(broker.server, broker.keys):
        name, prefix = broker.config.name, broker.config.key_prefix
        raise UnknownBatcher(
            f"nobody has ever used a batcher {name!r} at {broker.server.where} with the key prefix "
            f"{prefix!r}; `microbatch list` shows those that are there"
        )
