"""The values by which a processor may name the failed events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from microbatch.broker.wire.batch import PartialFailure


@dataclass(frozen=True)
class Int64:
    """An integer of another type, like NumPy's integers."""

    value: int

    def __index__(self) -> int:
        return self.value


@dataclass(frozen=True)
class RefusesToBeAnIndex:
    """Like NumPy's bool and its arrays, which have the method but raise."""

    def __index__(self) -> int:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")


def errors_of(errors: dict[Any, str]) -> dict[int, BaseException | str]:
    return PartialFailure(errors).errors


def test_integers_of_every_type_are_positions() -> None:
    found = errors_of({0: "a", Int64(2): "b"})
    assert found == {0: "a", 2: "b"}
    assert [type(position) for position in found] == [int, int]


@pytest.mark.parametrize("position", [0.5, 1.0, "1", None, True, (0,), RefusesToBeAnIndex()])
def test_what_is_not_an_integer_is_refused_where_it_is_said(position: object) -> None:
    """Recording the outcome would be too late for the error: the events that are done would be unknown."""
    with pytest.raises(TypeError, match="an event's position is an integer, not ") as refused:
        errors_of({0: "a", position: "b"})
    assert repr(position) in str(refused.value)
