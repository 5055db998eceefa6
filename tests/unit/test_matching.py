"""`match` puts each row to the events that asked for it, whatever order and number the rows have."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbatch.producer.matching import match


@dataclass(frozen=True)
class User:
    id: int
    name: str = "?"


def test_rows_in_another_order_go_to_their_events() -> None:
    rows = [{"id": 3, "name": "c"}, {"id": 1, "name": "a"}]
    events = [{"id": 1}, {"id": 2}, {"id": 3}]
    assert match(events, rows, key="id") == {0: rows[1], 2: rows[0]}


def test_several_events_of_one_key_get_the_same_row() -> None:
    row = {"id": 1}
    assert match([1, 2, 1], [row], key=lambda event: event, row_key="id") == {0: row, 2: row}


def test_the_last_row_of_a_key_counts() -> None:
    assert match([{"id": 1}], [(1, "old"), (1, "new")], key="id", row_key=0) == {0: (1, "new")}


def test_keys_are_attributes_items_positions_or_functions() -> None:
    user, row = User(7), (7, "ann")
    assert match([user], [row], key="id", row_key=0) == {0: row}
    assert match([row], [user], key=0, row_key="id") == {0: user}
    assert match([{"id": 7}], [user], key="id") == {0: user}
    assert match([row], [user], key=lambda event: event[0], row_key=lambda found: found.id) == {0: user}
    assert match([{1: 7}], [(0, 7)], key=1) == {0: (0, 7)}


def test_nothing_found_is_no_result() -> None:
    assert match([1, 2], [], key=lambda event: event) == {}
    assert match([], [User(1)], key="id") == {}


def test_rows_may_come_one_by_one() -> None:
    assert match([User(2)], (User(n, str(n)) for n in range(3)), key="id") == {0: User(2, "2")}


def test_a_key_that_is_not_there_or_has_no_hash_is_an_error() -> None:
    with pytest.raises(KeyError):
        match([{"id": 1}], [{"name": "a"}], key="id")
    with pytest.raises(AttributeError):
        match([User(1)], [User(1)], key="email")
    with pytest.raises(IndexError):
        match([(1,)], [(1,)], key=5)
    with pytest.raises(TypeError, match="unhashable"):
        match([{"id": []}], [], key="id")


@given(st.lists(st.integers(0, 9)), st.permutations(range(10)), st.integers(0, 10))
def test_no_event_gets_the_row_of_another(events: list[int], order: list[int], found: int) -> None:
    rows = [(key, f"row of {key}") for key in order[:found]]
    matched = match(events, rows, key=lambda event: event, row_key=0)
    for position, event in enumerate(events):
        assert matched.get(position) == ((event, f"row of {event}") if event in order[:found] else None)
