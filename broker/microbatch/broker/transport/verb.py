"""A verb: something that the server can be asked for, written once for all callers.

    class Events(Verbs[S_co]):
        @verb
        def waiting(self) -> Request[int]:
            return command("LLEN", self._key).then(int)

    Events(server, …).waiting()                a number
    await Events(async_server, …).waiting()    the same, on asyncio
    events.waiting.request()                   the request, to be sent together with others

So a verb needs no second version for asyncio, and none that sends its commands along with others.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Self, cast, overload

from typing_extensions import TypeVar

from microbatch.broker.transport.async_server import AsyncServer
from microbatch.broker.transport.request import Request, Steps
from microbatch.broker.transport.server import Server

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
S_co = TypeVar("S_co", bound=Server | AsyncServer, covariant=True, default=Server)


class Verbs(Generic[S_co]):
    """The verbs of one server, for threads or for asyncio."""

    def __init__(self, server: S_co) -> None:
        self.server = server


class verb(Generic[P, T]):  # noqa: N801 - it is used as a decorator
    """Decorates a method that returns a request or steps. On a call, the instance's server performs them."""

    def __init__(self, ask: Callable[Concatenate[Any, P], Request[T] | Steps[T]]) -> None:
        self.ask = ask
        """The method itself, which takes the instance first."""
        update_wrapper(self, ask)

    @overload
    def __get__(self, verbs: None, owner: type) -> Self: ...
    @overload
    def __get__(self, verbs: Verbs[Server], owner: type) -> Verb[P, T, T]: ...
    @overload
    def __get__(self, verbs: Verbs[AsyncServer], owner: type) -> Verb[P, T, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, verbs: Verbs[S_co], owner: type) -> Verb[P, T, Any]: ...
    def __get__(self, verbs: Any, owner: type) -> Any:
        return self if verbs is None else Verb(self.ask, verbs)

    def __call__(self, verbs: Verbs[Server], *args: P.args, **kwargs: P.kwargs) -> T:
        return verbs.server.perform(self.ask(verbs, *args, **kwargs))


class Verb(Generic[P, T, R]):
    """A verb that is bound to one instance."""

    __slots__ = ("_ask", "_verbs")

    def __init__(self, ask: Callable[..., Request[T] | Steps[T]], verbs: Any) -> None:
        self._ask = ask
        self._verbs = verbs

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        performed: R = self._verbs.server.perform(self._ask(self._verbs, *args, **kwargs))
        return performed

    def asked(self, *args: P.args, **kwargs: P.kwargs) -> Request[T] | Steps[T]:
        """The request or steps, to be performed by something other than the instance's server."""
        return self._ask(self._verbs, *args, **kwargs)

    def request(self, *args: P.args, **kwargs: P.kwargs) -> Request[T]:
        """The request of a verb that takes one round trip, to be sent together with others."""
        return cast("Request[T]", self._ask(self._verbs, *args, **kwargs))
