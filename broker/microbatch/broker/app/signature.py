"""Reads what a processor or handler expects, from its parameters and the annotation of the first one."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable
from typing import Any

from microbatch.broker.errors import ConfigError
from microbatch.broker.wire.batch import BatchInfo

Function = Callable[..., Any]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMES_BATCH_INFO = re.compile(rf"\b{BatchInfo.__name__}\b")


class Signature:
    """What a function expects.

    Only the annotations that are needed are resolved. The others may use names that exist only for type
    checkers.
    """

    def __init__(self, setting: str, function: Function, first: object = None, *, wants_info: bool) -> None:
        self._setting = setting
        self._function = function
        self._first = first
        self.wants_info = wants_info
        """Whether the function is also called with the batch."""

    def annotation(self) -> Any:
        """The first parameter's annotation, or None. Raises ConfigError if it can't be resolved."""
        try:
            return _looked_up(self._function, self._first)
        except Exception as error:  # an annotation can be any text
            raise ConfigError(
                f"{self._setting}: the annotation {self._first!r} can't be resolved: {error}; values are "
                "rebuilt by it, so its names must be imported at run time, not under `if TYPE_CHECKING:`"
            ) from error


def read_signature(setting: str, function: Function) -> Signature:
    """Read what ``function`` expects.

    Raises:
        ConfigError: it can't be called with a value, nor with a value and a batch.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some builtins have no signature
        return Signature(setting, function, wants_info=False)
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return Signature(setting, function, wants_info=False)
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise ConfigError(f"{setting} requires the keyword argument {parameter.name!r}, and gets none")
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    required = [parameter for parameter in positional if parameter.default is inspect.Parameter.empty]
    if not positional or len(required) > 2:
        raise ConfigError(
            f"{setting} takes {len(required)} parameters; it must take one and may take the batch as a second"
        )
    first, *others = (_annotation(parameter) for parameter in positional)
    wants_info = len(required) == 2 or (bool(others) and _is_batch(function, others[0]))
    return Signature(setting, function, first, wants_info=wants_info)


def _annotation(parameter: inspect.Parameter) -> object:
    return None if parameter.annotation is parameter.empty else parameter.annotation


def _is_batch(function: Function, annotation: object) -> bool:
    """Whether an optional parameter is for the batch."""
    try:
        found = _looked_up(function, annotation)
    except Exception:  # noqa: BLE001 - an annotation can be any text, with names only for type checkers
        return _NAMES_BATCH_INFO.search(str(annotation)) is not None
    return BatchInfo in (found, *typing.get_args(found))


def _looked_up(function: Function, annotation: object) -> Any:
    """The annotation, with the names in its quotes resolved."""
    if annotation is None:
        return None

    def only() -> None:
        """Carries the one annotation."""

    only.__annotations__ = {"it": annotation}
    return typing.get_type_hints(only, _namespace(function))["it"]


def _namespace(function: Function) -> dict[str, Any]:
    """The namespace in which a function's annotations are resolved."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = type(function).__call__
    function = inspect.unwrap(function)
    names: dict[str, Any] | None = getattr(function, "__globals__", None)
    return names if names is not None else vars(sys.modules[function.__module__])
