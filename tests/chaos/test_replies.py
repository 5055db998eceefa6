"""The rules about replies, on histories written by hand: a correct one, and one for each way to break one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import replies
from tests.chaos.checker import RULES
from tests.chaos.conditions import REPLY_SECONDS
from tests.chaos.history import FAIL, INVOKE, OK
from tests.chaos.test_checker import BATCH, OTHER, Story

CLIENT, RUN = "submitter-1", "7.0"
TIMEOUT = 60.0


def answered() -> Story:
    """Of four submitted events, one gets its result, one expires, one dies, and the reply to one is lost."""
    story = Story()
    submit(story, "a")
    submit(story, "b", expires=1.0)
    submit(story, "c", poison=True)
    submit(story, "d")
    for state in (INVOKE, OK):
        story.tell("record", state, events=["a", "b", "c", "d"])
    story.tell("cut", token="t1", batches=[BATCH, OTHER], sizes=[3, 1])
    story.tell("claim", batch=BATCH, attempt=1, parent="", events=["a", "b", "d"])
    for _ in range(3):
        run(story, OTHER, FAIL, ["c"])
    story.tell("bury", pid=7, batch=OTHER, value=True)
    end(story, "c", "EventFailed")
    run(story, BATCH, OK, ["a", "d"])
    story.tell("commit", pid=7, batch=BATCH, value=True)
    end(story, "a", "result", ["a", RUN])
    end(story, "b", "EventExpired")
    freeze(story, REPLY_SECONDS)
    end(story, "d", "ReplyLost")
    story.be(
        stats={"done_batches": 1, "done_events": 2, "expired_events": 1, "dead_batches": 1},
        entries_added=None,
        dead={OTHER: ["c"]},
        cuts=[{"token": "t1", "held": "t1", "batches": [BATCH, OTHER]}],
    )
    return story


def submit(story: Story, event: str, **facts: Any) -> None:
    arguments = {"id": None, "timeout": TIMEOUT, "expires": None, "fickle": False, "poison": False, **facts}
    story.tell("submit", INVOKE, who=CLIENT, call=ord(event), event=event, **arguments)


def end(story: Story, event: str, outcome: str, value: object = None) -> None:
    story.tell("submit", who=CLIENT, call=ord(event), event=event, outcome=outcome, value=value)


def run(story: Story, batch: str, state: str, events: list[str], *, call: int = 0) -> None:
    for each in (INVOKE, state):
        story.tell("run", each, pid=7, call=call, batch=batch, attempt=1, given=events, returned=events)


def freeze(story: Story, seconds: float) -> None:
    story.tell("fault", kind="freeze", target=CLIENT, victim=1, since=story.now + 1 - seconds)


def end_instead(story: Story, event: str, outcome: str, value: object = None) -> None:
    """Have the future of an event end in another way."""
    story.notes = [
        note for note in story.notes if (note.call, note.state, note.what) != (ord(event), OK, "submit")
    ]
    end(story, event, outcome, value)


def test_a_good_history_breaks_no_rule() -> None:
    assert answered().broken() == set()


def end_twice(story: Story) -> None:
    end(story, "a", "result", ["a", RUN])


def end_never(story: Story) -> None:
    submit(story, "e")
    story.tell("drained")


def end_late(story: Story) -> None:
    submit(story, "e", timeout=1.0)
    story.now += 3 * replies.LATE_SECONDS
    end(story, "e", "TimeoutError")


def end_long_after_the_reply(story: Story) -> None:
    story.without("fault")
    story.now += replies.LATE_SECONDS
    end_instead(story, "a", "result", ["a", RUN])


def have_the_result_of_another(story: Story) -> None:
    end_instead(story, "a", "result", ["d", RUN])


def have_a_result_that_no_run_returned(story: Story) -> None:
    end_instead(story, "b", "result", ["b", RUN])


def have_results_of_two_runs_of_a_batch(story: Story) -> None:
    run(story, BATCH, OK, ["a", "d"], call=1)
    end_instead(story, "d", "result", ["d", "7.1"])


def have_a_result_of_a_run_that_was_fenced_off(story: Story) -> None:
    story.without("commit")
    story.tell("commit", pid=8, batch=BATCH, value=True)


def have_a_result_although_dead(story: Story) -> None:
    story.be(dead={OTHER: ["c"], BATCH: ["a"]})


def fail_although_not_dead(story: Story) -> None:
    end_instead(story, "a", "EventFailed")


def expire_although_processed(story: Story) -> None:
    run(story, BATCH, OK, ["b"], call=1)


def expire_without_a_time(story: Story) -> None:
    end_instead(story, "a", "EventExpired")


def time_out_too_early(story: Story) -> None:
    end_instead(story, "a", "TimeoutError")


def lose_a_reply_without_cause(story: Story) -> None:
    story.without("fault")


def lose_a_reply_in_a_short_silence(story: Story) -> None:
    story.without("fault")
    freeze(story, 1.0)
    end_instead(story, "d", "ReplyLost")


def be_unavailable_although_recorded(story: Story) -> None:
    end_instead(story, "a", "Unavailable")


def be_recorded_already_without_another(story: Story) -> None:
    submit(story, "e", id="i")
    end(story, "e", "AlreadyRecorded")


def be_too_many_alone(story: Story) -> None:
    submit(story, "e")
    end(story, "e", "TooManyPending")


def be_in_doubt(story: Story) -> None:
    submit(story, "e")
    end(story, "e", "InDoubt")


def close_at_work(story: Story) -> None:
    submit(story, "e", timeout=None)
    end(story, "e", "Closed")


def cancel_what_nobody_cancelled(story: Story) -> None:
    submit(story, "e")
    end(story, "e", "CancelledError")


def raise_what_is_not_documented(story: Story) -> None:
    submit(story, "e")
    end(story, "e", "KeyError")


def process_two_of_an_id(story: Story) -> None:
    for event in "ef":
        submit(story, event, id="i")
    story.tell("claim", batch=BATCH, attempt=1, parent="", events=["e", "f"])


BREACHES: dict[Callable[[Story], None], str] = {
    end_twice: "settled_once",
    end_never: "settled_once",
    end_late: "settled_in_time",
    end_long_after_the_reply: "settled_in_time",
    have_the_result_of_another: "own_result",
    have_a_result_that_no_run_returned: "own_result",
    have_results_of_two_runs_of_a_batch: "own_result",
    have_a_result_of_a_run_that_was_fenced_off: "own_result",
    have_a_result_although_dead: "true_outcome",
    fail_although_not_dead: "true_outcome",
    expire_although_processed: "true_outcome",
    expire_without_a_time: "true_outcome",
    time_out_too_early: "true_outcome",
    lose_a_reply_without_cause: "true_outcome",
    lose_a_reply_in_a_short_silence: "true_outcome",
    be_unavailable_although_recorded: "true_outcome",
    be_recorded_already_without_another: "true_outcome",
    be_too_many_alone: "true_outcome",
    be_in_doubt: "true_outcome",
    close_at_work: "true_outcome",
    cancel_what_nobody_cancelled: "true_outcome",
    raise_what_is_not_documented: "true_outcome",
    process_two_of_an_id: "one_of_an_id",
}


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.__name__)
def test_each_breach_is_named(breach: Callable[[Story], None]) -> None:
    story = answered()
    breach(story)
    assert BREACHES[breach] in story.broken()


def test_each_rule_has_a_breach() -> None:
    assert set(BREACHES.values()) == {r.__name__ for r in RULES if r.__module__ == replies.__name__}


def test_a_killed_client_takes_its_futures_along() -> None:
    story = answered()
    end_never(story)
    story.tell("fault", kind="kill", target=CLIENT, victim=1)
    assert story.broken() == set()


def test_a_frozen_client_may_be_told_late() -> None:
    story = answered()
    submit(story, "e", timeout=1.0)
    story.now += 21
    freeze(story, 20.0)
    end(story, "e", "TimeoutError")
    assert story.broken() == set()
