"""The marks of flushes, as arithmetic: a flush is done when all that was recorded before it is cut."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from microbatch.broker.state.flushes import FlushState
from microbatch.scheduler import flush_marks
from microbatch.scheduler.flush_marks import FlushMarks


def at(asked: int, waiting: int, done: int = 0) -> FlushState:
    return FlushState(asked, done, waiting)


def test_a_flush_is_done_when_as_many_are_cut_as_waited() -> None:
    marks = FlushMarks()
    marks.look(5, at(asked=1, waiting=5))
    marks.cut(4)
    assert marks.reached() == 0
    marks.cut(1)
    assert marks.reached() == 1
    marks.noted(1)
    assert marks.reached() == 0


def test_where_nothing_waits_it_is_done_at_once() -> None:
    marks = FlushMarks()
    marks.look(0, at(asked=3, waiting=0, done=2))
    assert marks.reached() == 3


def test_what_is_done_is_not_marked_again() -> None:
    marks = FlushMarks()
    marks.look(7, at(asked=3, waiting=7, done=3))
    marks.cut(7)
    assert marks.reached() == 0


def test_a_later_flush_does_not_put_an_earlier_one_off() -> None:
    marks = FlushMarks()
    marks.look(5, at(asked=1, waiting=5))
    marks.cut(4)
    marks.look(100, at(asked=2, waiting=100))
    marks.cut(1)
    assert marks.reached() == 1


def test_events_that_vanish_are_not_waited_for() -> None:
    marks = FlushMarks()
    marks.look(5, at(asked=1, waiting=5))
    marks.look(0, None)
    assert marks.reached() == 1


def test_numbers_that_begin_anew_are_marked_anew() -> None:
    marks = FlushMarks()
    marks.look(5, at(asked=9, waiting=5))
    marks.look(3, at(asked=1, waiting=3))
    marks.cut(2)
    assert marks.reached() == 0
    marks.cut(1)
    assert marks.reached() == 1


def test_a_new_leader_begins_without_marks() -> None:
    marks = FlushMarks()
    marks.look(5, at(asked=1, waiting=5))
    marks.reset()
    marks.cut(5)
    assert marks.look_due
    assert marks.reached() == 0


def test_however_many_are_asked_for_the_marks_are_bounded() -> None:
    marks = FlushMarks()
    for number in range(1, 1_001):
        marks.look(number, at(asked=number, waiting=number))
    assert len(marks._marks) == flush_marks._MOST
    marks.cut(99)
    assert marks.reached() == 99
    marks.cut(900)
    assert marks.reached() == 99  # those after share the last one's mark
    marks.cut(1)
    assert marks.reached() == 1_000


class Story:
    """Events that are recorded and cut, flushes that are asked for, and schedulers that come and go."""

    def __init__(self) -> None:
        self.marks = FlushMarks()
        self.recorded = self.cut_events = self.asked = self.done = 0
        self.recorded_before: dict[int, int] = {}

    def record(self) -> None:
        self.recorded += 3

    def ask(self) -> None:
        self.asked += 1
        self.recorded_before[self.asked] = self.recorded

    def look(self) -> None:
        waiting = self.recorded - self.cut_events
        self.marks.look(waiting, FlushState(self.asked, self.done, waiting))

    def cut(self) -> None:
        count = min(2, self.recorded - self.cut_events)
        self.cut_events += count
        self.marks.cut(count)

    def note(self) -> None:
        if number := self.marks.reached():
            assert number > self.done
            self.done = number
            self.marks.noted(number)
            for flush, recorded in self.recorded_before.items():
                assert flush > number or self.cut_events >= recorded

    def take_over(self) -> None:
        self.marks.reset()

    def cut_and_die(self) -> None:
        """The new leader does not know what was cut last."""
        self.cut_events += min(2, self.recorded - self.cut_events)
        self.marks.reset()


STEPS = (
    Story.record, Story.ask, Story.look, Story.look, Story.cut, Story.note,
    Story.take_over, Story.cut_and_die,
)  # fmt: skip


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=40))
def test_in_any_order_a_flush_is_done_when_all_before_it_is_cut(steps: list[Callable[[Story], None]]) -> None:
    story = Story()
    for step in steps:
        step(story)
    story.look()
    while story.cut_events < story.recorded:
        story.cut()
    story.note()
    assert story.done == story.asked
