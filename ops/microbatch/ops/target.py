"""The target of a command: an app, or a batcher's name."""

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
    """No batcher of this name was ever used: the name is probably mistyped."""


def is_app(target: str) -> bool:
    """Whether ``target`` is an app: it has a colon or a slash, or ends with ``.py``. Others are names."""
    return ":" in target or target.endswith(".py") or os.sep in target


def load_target(target: str) -> Config:
    """The Config of an app; for a name, one with that name and the settings of the environment.

    Raises:
        AppError: the app can't be loaded.
        ConfigError: the name is not valid for a batcher, or a setting is not valid.
    """
    return load_config(target) if is_app(target) else Config(name=target)


def reach(target: str, *, unused: Unused, otherwise: str = "") -> Broker:
    """The batcher's verbs. Its server was reached and can be used.

    A bare name may be mistyped. ``unused`` says what to do with a name that was never used: "refused" raises
    UnknownBatcher, whose message ends with ``otherwise``; "told" writes one line on standard error; "allowed"
    does not check.

    Also raises as `load_target` does, and ServerError.
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
    """Raises UnknownBatcher if ``target`` is a bare name that was never used."""
    if not is_app(target) and not is_used(broker.server, broker.keys):
        name, prefix = broker.config.name, broker.config.key_prefix
        raise UnknownBatcher(
            f"nobody has ever used a batcher {name!r} at {broker.server.where} with the key prefix "
            f"{prefix!r}; `microbatch list` shows those that are there"
        )
