"""The user's functions: processors and handlers, in every form that a setting accepts.

A function is a callable, an object with ``run``, or an import string ``"package.module:name"``. It is plain
or ``async def``. Its argument is rebuilt as the annotation of its first parameter says. It is also called
with the batch if its second parameter is required, or is annotated as `BatchInfo`.
"""

from __future__ import annotations

import asyncio
import collections.abc
import importlib
import inspect
import typing
import weakref
from collections.abc import Awaitable, Coroutine
from typing import Any

from microbatch.broker.app.importing import importing
from microbatch.broker.app.signature import Function, read_signature
from microbatch.broker.errors import ConfigError, MicrobatchError
from microbatch.broker.process.loggable import tell_of_a_task
from microbatch.broker.wire.batch import BatchInfo
from microbatch.broker.wire.codec import Decoder

_SEQUENCES = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)


def check_reference(setting: str, value: object) -> None:
    """Raises ValueError, which says what to write instead, unless `resolve` accepts the form of ``value``."""
    if isinstance(value, str):
        module, colon, name = value.partition(":")
        if not (module and colon and name):
            raise ValueError(f"{setting} {value!r} is not an import string; write 'package.module:name'")
    elif not callable(value) and not callable(getattr(value, "run", None)):
        raise ValueError(
            f"{setting} must be a function, an object with run(), or an import string, not {value!r}"
        )


def resolve(setting: str, value: object) -> Function:
    """The function that a setting names. Raises ConfigError if it can't be imported or called."""
    if isinstance(value, str):
        module_name, _, name = value.partition(":")
        try:
            with importing(module_name):
                value = importlib.import_module(module_name)
            for part in name.split("."):
                value = getattr(value, part)
        except (ImportError, AttributeError, MicrobatchError) as error:
            raise ConfigError(f"{setting}: cannot import it: {error}") from error
        except (Exception, SystemExit) as error:  # the user's module may raise anything
            raise ConfigError(f"{setting}: cannot import it: {type(error).__name__}: {error}") from error
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


class UserFunction:
    """A processor or handler, ready to be called.

    Raises:
        ConfigError: it can't be found, or can't be called with a value.
    """

    def __init__(self, setting: str, value: object) -> None:
        self.setting = setting
        self._function = resolve(setting, value)
        self._runner: asyncio.Runner | None = None
        self._signature = read_signature(setting, self._function)

    def __call__(self, value: Any, info: BatchInfo) -> Any:
        """Call it with ``value``, and with the batch if it expects one. An async one is run until it returns.

        Raises ConfigError if it is async and this thread already runs an event loop, and whatever it raises.
        """
        returned = self._begin(value, info)
        if not inspect.isawaitable(returned):
            return returned
        self._refuse_in_a_loop(returned)
        if self._runner is None:  # one loop for all calls, so that the function can keep what it opens
            self._runner = asyncio.Runner()
            self._runner.get_loop().set_exception_handler(tell_of_a_task)
            weakref.finalize(self, self._runner.close)
        coroutine = _to_its_end(returned)
        try:
            return self._runner.run(coroutine)
        except BaseException:
            self._cancel(self._runner, coroutine)
            raise

    async def on_loop(self, value: Any, info: BatchInfo) -> Any:
        """Call it from asyncio. An async one runs on this event loop, and a plain one on another thread.

        If the task is cancelled while a plain one runs, that one goes on. Raises whatever it raises.
        """
        if self.is_async:
            return await self._begin(value, info)
        returned = await asyncio.to_thread(self._begin_on_a_thread, value, info)
        return await returned if inspect.isawaitable(returned) else returned

    @property
    def is_async(self) -> bool:
        """Whether it is known to be async before it is called."""
        called = getattr(self._function, "__call__", None)  # noqa: B004 - of an object, it may be async
        return inspect.iscoroutinefunction(self._function) or inspect.iscoroutinefunction(called)

    def _begin(self, value: Any, info: BatchInfo) -> Any:
        """Call it. What it returns is an awaitable if it is async."""
        return self._function(value, info) if self._signature.wants_info else self._function(value)

    def _begin_on_a_thread(self, value: Any, info: BatchInfo) -> Any:
        try:
            return self._begin(value, info)
        except StopIteration as error:  # asyncio can't pass it on, and its task would wait forever
            raise RuntimeError(f"{self.setting} raised StopIteration") from error

    def _refuse_in_a_loop(self, returned: Awaitable[Any]) -> None:
        """An async function needs its own loop, and a thread can run only one."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        if inspect.iscoroutine(returned):
            returned.close()  # otherwise Python warns that it was never awaited
        raise ConfigError(
            f"{self.setting} is async, and this thread runs an event loop already; make the call on another "
            "thread, as in `await asyncio.to_thread(mb.wait_for_results)`, or use start_consuming()"
        )

    def _cancel(self, runner: asyncio.Runner, coroutine: Coroutine[Any, Any, Any]) -> None:
        """End a call that was interrupted while it waited. Otherwise it would go on during the next call."""
        for task in asyncio.all_tasks(runner.get_loop()):
            if task.get_coro() is coroutine:
                task.cancel()
                runner.run(_ended(task))

    def decoder(self) -> Decoder:
        """A decoder that rebuilds the function's argument.

        Raises ConfigError if the annotation can't be resolved, or pydantic can't handle it.
        """
        annotation = self._signature.annotation()
        return self._decoder_of(Any if annotation is None else annotation)

    def item_decoder(self) -> Decoder:
        """A decoder that rebuilds the items of the list that is the function's argument.

        Raises ConfigError as `decoder` does, and if the annotation is not a list of one item type.
        """
        annotation = self._signature.annotation()
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
