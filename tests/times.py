"""Shorter or longer times than the real ones, for tests that can't wait for these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from microbatch.broker.policy.timing import Leased, Timing

if TYPE_CHECKING:  # an app that calls `hurry_for_good` needs neither
    import pytest

    from microbatch.broker.broker import Broker


def hurry(patch: pytest.MonkeyPatch, **times: float) -> None:
    """Give these times to every broker that this process makes from now on."""
    patch.setattr(Timing, "of", _with(times))


def hurry_for_good(**times: float) -> None:
    """Do the same in a process that a test has started. The app calls this when it is imported."""
    setattr(Timing, "of", _with(times))  # noqa: B010 - mypy knows it for a method


def retime(broker: Broker, **times: float) -> None:
    """Give an existing broker other times. They apply to what is made with it from now on."""
    broker.timing = _changed(broker.timing, times)


def _with(times: dict[str, float]) -> Callable[[Leased], Timing]:
    made = Timing.of
    return lambda settings: _changed(made(settings), times)


def _changed(timing: Timing, times: dict[str, float]) -> Timing:
    return replace(timing, **times)  # type: ignore[arg-type]
