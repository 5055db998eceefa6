"""Test doubles that a test controls: a clock, a ticker, a wake listener, handlers and an observer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from microbatch.broker.state.wake import Wake
from microbatch.broker.state.wake_listener import Wakeup
from microbatch.broker.transport.request import Steps


def set_time(patch: pytest.MonkeyPatch, module: ModuleType, **functions: Callable[..., object]) -> None:
    """Replace functions of ``time`` for ``module`` only.

    A thread that an earlier test left behind must not call the replaced functions.
    """
    patch.setattr(module, "time", SimpleNamespace(**functions))


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def known_ms(self) -> int | None:
        return self.now_ms()

    def reading(self) -> Steps[int]:
        yield from ()
        return self.now_ms()

    def look_again(self) -> None:
        """The manual clock is always right."""

    def advance(self, by_ms: int) -> None:
        self.ms += by_ms


class ManualTicker:
    """A ticker whose cycle ends when a test says so."""

    def __init__(self) -> None:
        self._due = False

    def tick(self) -> None:
        self._due = True

    def remaining_ms(self, now_ms: int) -> int:
        return 0 if self._due else 60_000

    def ticked(self, now_ms: int) -> bool:
        due, self._due = self._due, False
        return due


class ManualWakeListener:
    """A listener that a test wakes. It never waits, but records how long it was asked to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._words: deque[Wake] = deque()

    def wake(self, word: Wake) -> None:
        self._words.append(word)

    def wait(self, seconds: float) -> Wakeup | None:
        self.waits.append(seconds)
        return Wakeup(self._words.popleft()) if self._words else None

    def close(self) -> None:
        self._words.clear()


class HandlerFailed(Exception):
    """An error that the handlers of the tests raise."""


class FailsOnce:
    """A handler that raises for its first result."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def run(self, result: int) -> None:
        self.calls.append(result)
        if len(self.calls) == 1:
            raise HandlerFailed(f"for {result}")


class Notes:
    """An observer that records what it is told."""

    sees_success = True

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, change: str) -> Callable[..., None]:
        return partial(self._note, change)

    def _note(self, change: str, **facts: Any) -> None:
        self.told.append((change, facts))

    @property
    def changes(self) -> list[str]:
        return [change for change, _ in self.told]

    def all(self, change: str) -> list[dict[str, Any]]:
        return [facts for each, facts in self.told if each == change]

    def one(self, change: str) -> dict[str, Any]:
        (facts,) = self.all(change)
        return facts
