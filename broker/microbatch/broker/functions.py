"""The user's functions: processors and handlers, in all the forms that they may take.

A callable, an object with ``run``, or an import string ``"package.module:name"``; plain or ``async def``.
The first parameter's annotation says what it wants to be given; a second parameter asks for the batch.
"""

from __future__ import annotations

import asyncio
import collections.abc
import functools
import importlib
import inspect
import typing
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from microbatch.broker.batch import BatchInfo
from microbatch.broker.codec import Decoder
from microbatch.broker.errors import ConfigError
from microbatch.broker.loggable import tell_of_a_task

Function = Callable[..., Any]
_SEQUENCES = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_reference(setting: str, value: object) -> None:
    """Raises ValueError, saying what to give, unless ``value`` is of a form that `resolve` takes."""
    if isinstance(value, str):
        module, colon, name = value.partition(":")
        if not (module and colon and name):
            raise ValueError(f"{setting} {value!r} is no import string; write it as 'package.module:name'")
    elif not callable(value) and not callable(getattr(value, "run", None)):
        raise ValueError(
            f"{setting} must be a function, an object with run(), or an import string, not {value!r}"
        )


def resolve(setting: str, value: object) -> Function:
    """The function behind a setting. Raises ConfigError if an import string leads nowhere."""
    if isinstance(value, str):
        module_name, _, name = value.partition(":")
        try:
            value = importlib.import_module(module_name)
            for part in name.split("."):
                value = getattr(value, part)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{setting}: cannot import it: {error}") from error
    run = getattr(value, "run", None)
    if inspect.isclass(value) and inspect.isfunction(inspect.getattr_static(value, "run", None)):
        raise ConfigError(
            f"{setting} is the class {value.__name__}; give an object of it: {value.__name__}()"
        )
    if callable(run):
        return typing.cast("Function", run)
    if not callable(value):
        raise ConfigError(
            f"{setting} must be a function, an object with run(), or an import string, not {value!r}"
        )
    return value


@dataclass(frozen=True, slots=True)
class _Signature:
    annotation: Any
    """The first parameter's, or None."""
    wants_info: bool


class UserFunction:
    """A processor or handler, ready to be called.

    Raises:
        ConfigError: it can't be found, takes no parameter, or its annotation is nothing to rebuild values by.
    """

    def __init__(self, setting: str, value: object) -> None:
        self.setting = setting
        self._function = resolve(setting, value)
        self._runner: asyncio.Runner | None = None
        self._signature = _signature(setting, self._function)

    def __call__(self, value: Any, info: BatchInfo) -> Any:
        """Call it with ``value``, and with the batch if it asks for one; an async one is run to its end."""
        returned = self._function(value, info) if self._signature.wants_info else self._function(value)
        if not inspect.isawaitable(returned):
            return returned
        if self._runner is None:  # one loop for all calls, so that what it opens can be kept
            self._runner = asyncio.Runner()
            self._runner.get_loop().set_exception_handler(tell_of_a_task)
            weakref.finalize(self, self._runner.close)
        coroutine = _to_its_end(returned)
        try:
            return self._runner.run(coroutine)
        except BaseException:
            self._cancel(self._runner, coroutine)
            raise

    def _cancel(self, runner: asyncio.Runner, coroutine: Coroutine[Any, Any, Any]) -> None:
        """End a call that was interrupted while it waited. Otherwise it would go on during the next."""
        for task in asyncio.all_tasks(runner.get_loop()):
            if task.get_coro() is coroutine:
                task.cancel()
                runner.run(_ended(task))

    def decoder(self) -> Decoder:
        """What rebuilds the value that it is given."""
        annotation = self._signature.annotation
        return self._decoder_of(Any if annotation is None else annotation)

    def item_decoder(self) -> Decoder:
        """What rebuilds the items of the list that it is given."""
        annotation = self._signature.annotation
        if annotation is None or annotation is Any or annotation in _SEQUENCES:
            return Decoder(Any)
        arguments = typing.get_args(annotation)
        if typing.get_origin(annotation) not in _SEQUENCES or len(arguments) != 1:
            raise ConfigError(f"{self.setting}: its first parameter is a list of events, not {annotation!r}")
        return self._decoder_of(arguments[0])

    def _decoder_of(self, annotation: Any) -> Decoder:
        try:
            return Decoder(annotation)
        except TypeError as error:
            raise ConfigError(
                f"{self.setting}: values can't be rebuilt as {annotation!r}: {error}"
            ) from error


async def _to_its_end(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


def _signature(setting: str, function: Function) -> _Signature:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # a builtin such as print tells nothing of itself
        return _Signature(None, wants_info=False)
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return _Signature(None, wants_info=False)
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise ConfigError(f"{setting} requires the keyword argument {parameter.name!r}, and gets none")
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    required = [parameter for parameter in positional if parameter.default is inspect.Parameter.empty]
    if not positional or len(required) > 2:
        raise ConfigError(
            f"{setting} takes {len(required)} parameters; it must take one and may take the batch as a second"
        )
    try:
        hints = typing.get_type_hints(_annotated(function))
    except NameError as error:
        raise ConfigError(f"{setting}: its annotations can't be resolved: {error}") from error
    second = hints.get(positional[1].name) if len(positional) > 1 else None
    second_is_batch = BatchInfo in (second, *typing.get_args(second))
    return _Signature(hints.get(positional[0].name), wants_info=len(required) == 2 or second_is_batch)


def _annotated(function: Function) -> Function:
    """What carries a function's annotations: a partial's are those of the function that it completes."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function).__call__
