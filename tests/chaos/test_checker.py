"""The checker on histories written by hand: a correct one, and one for each way to break a rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import replies
from tests.chaos.checker import RULES, check
from tests.chaos.evidence import Evidence
from tests.chaos.history import DOUBT, FAIL, INVOKE, OK, Note, read_on
from tests.chaos.recovery import in_time, recoveries
from tests.chaos.state import State
from tests.chaos.stops import STOP_SECONDS

EVENTS = ["a", "b", "c"]
BATCH, PART, OTHER = "1f", "1f-22", "3e"


class Story:
    """A history that is told line by line, with a second between lines, and the state at its end."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.state = State()
        self.now = 0.0

    def tell(
        self,
        what: str,
        state: str = OK,
        *,
        pid: int = 1,
        who: str = "",
        call: int = 0,
        since: float | None = None,
        **facts: Any,
    ) -> None:
        self.now += 1.0
        begun = self.now if since is None else since
        self.notes.append(Note(self.now, who or f"who-{pid}", pid, what, state, call, begun, facts))

    def without(self, what: str) -> None:
        self.notes = [note for note in self.notes if note.what != what]

    def be(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)

    def broken(self) -> set[str]:
        return {violation.rule for violation in check(Evidence.of(self.notes), self.state)}


def told() -> Story:
    """Two events are handled with their batch. The third fails at first, runs as a part, and dies."""
    story = Story()
    for state in (INVOKE, OK):
        story.tell("record", state, events=EVENTS, poison=["c"])
    story.tell("acquire", token="t1", value=True)
    story.tell("cut", token="t1", batches=[BATCH], sizes=[3])
    story.tell("claim", batch=BATCH, attempt=1, parent="", events=EVENTS)
    run(story, BATCH, EVENTS, times=2)
    story.tell("divide", batch=BATCH, parts=[PART], entry=True, value=True)
    story.tell("claim", batch=PART, attempt=3, parent=BATCH, events=["c"])
    run(story, PART, ["c"])
    story.tell("in_flight", batches=20)
    story.tell("bury", batch=PART, value=True)
    story.tell("deliver", entries=[["1-0", BATCH], ["2-0", PART]])
    story.tell("handle", batch=BATCH, events=["a", "b"], dead=False)
    story.tell("handle", batch=PART, events=["c"], dead=True)
    story.be(
        stats={"done_batches": 1, "done_events": 2, "dead_batches": 1},
        entries_added=2,
        dead={PART: ["c"]},
        cuts=[{"token": "t1", "held": "t1", "batches": [BATCH]}],
    )
    return story


def run(story: Story, batch: str, events: list[str], *, times: int = 1) -> None:
    """A batch is run, and fails."""
    for _ in range(times):
        for state in (INVOKE, FAIL):
            story.tell("run", state, batch=batch, attempt=1, events=events)


def test_a_good_history_breaks_no_rule() -> None:
    assert told().broken() == set()


@pytest.mark.parametrize("beside", [False, True])
def test_a_good_event_may_die_in_an_outage_only_where_nothing_else_ran(*, beside: bool) -> None:
    story = told()
    story.tell("record", OK, events=["d"])
    story.tell("cut", token="t1", batches=[OTHER], sizes=[1])
    story.tell("claim", batch=OTHER, attempt=1, parent="", events=["d"])
    run(story, OTHER, ["d"])
    if beside:
        run(story, BATCH, EVENTS)
    run(story, OTHER, ["d"], times=2)
    story.tell("bury", batch=OTHER, value=True)
    story.be(dead={PART: ["c"], OTHER: ["d"]})
    assert ("only_poison_dies" in story.broken()) == beside


def test_what_is_in_doubt_may_be_there_or_not() -> None:
    story = told()
    story.tell("record", INVOKE, events=["d"])
    story.tell("record", DOUBT, events=["d"])
    story.tell("record", INVOKE, events=["e"])  # its producer was killed
    assert story.broken() == set()
    story.tell("handle", batch=BATCH, events=["d"], dead=False)
    assert "nothing_invented" not in story.broken()


def test_a_replayed_event_may_be_in_two_batches() -> None:
    story = told()
    story.tell("replay", batch=PART, events=["c"])
    story.tell("claim", batch=OTHER, attempt=1, parent="", events=["c"])
    run(story, OTHER, ["c"], times=3)
    story.tell("deliver", entries=[["3-0", OTHER]])
    story.tell("handle", batch=OTHER, events=["c"], dead=True)
    cuts = [*story.state.cuts, {"token": "t1", "held": "t1", "batches": [OTHER]}]
    stats = {**story.state.stats, "dead_batches": 2}
    story.be(stats=stats, entries_added=3, dead={OTHER: ["c"]}, cuts=cuts)
    assert story.broken() == set()


def test_a_part_is_known_by_its_division_even_if_its_claim_is_not() -> None:
    story = told()
    story.notes = [note for note in story.notes if note.what != "claim" or note["batch"] != PART]
    story.tell("divide", batch=PART, parts=["1f-33"], entry=False, value=True)
    story.tell("claim", batch="1f-33", attempt=3, parent=PART, events=["c"])
    assert not {"one_batch", "cut_once"} & story.broken()


def lose_a_result(story: Story) -> None:
    story.notes = [note for note in story.notes if note.what != "handle" or note["dead"]]


def run_what_nobody_recorded(story: Story) -> None:
    story.tell("handle", batch=BATCH, events=["z"], dead=False)


def run_what_was_refused(story: Story) -> None:
    story.tell("record", INVOKE, events=["d"])
    story.tell("record", FAIL, events=["d"])
    story.tell("claim", batch=BATCH, attempt=2, parent="", events=["d"])


def put_an_event_into_two_batches(story: Story) -> None:
    story.tell("claim", batch=OTHER, attempt=1, parent="", events=["a"])


def put_an_event_into_a_batch_twice(story: Story) -> None:
    story.tell("claim", batch=OTHER, attempt=1, parent="", events=["d", "d"])


def handle_an_event_with_two_batches(story: Story) -> None:
    story.tell("handle", batch=PART, events=["a"], dead=False)


def handle_an_event_that_is_dead(story: Story) -> None:
    story.be(dead={PART: ["c"], OTHER: ["a"]})


def commit_twice(story: Story) -> None:
    story.tell("commit", batch=BATCH, value=True)


def deliver_two_entries_of_a_batch(story: Story) -> None:
    story.tell("deliver", entries=[["4-0", BATCH]])


def add_an_entry_too_many(story: Story) -> None:
    story.be(entries_added=3)


def never_deliver_an_entry(story: Story) -> None:
    story.without("deliver")


def count_an_event_too_few(story: Story) -> None:
    story.be(stats={**story.state.stats, "done_events": 1})


def read_a_batch_otherwise(story: Story) -> None:
    story.tell("claim", batch=BATCH, attempt=2, parent="", events=["a", "b"])


def handle_what_the_batch_does_not_have(story: Story) -> None:
    story.tell("handle", batch=PART, events=["b"], dead=False)


def cut_under_a_token_that_does_not_hold_the_lease(story: Story) -> None:
    story.be(cuts=[{"token": "t1", "held": "t2", "batches": [BATCH]}])


def cut_after_another_became_active(story: Story) -> None:
    story.tell("acquire", pid=2, token="t2", value=True)
    story.tell("cut", token="t1", batches=[OTHER], sizes=[1])


def run_what_was_never_cut(story: Story) -> None:
    story.be(cuts=[])


def bury_a_good_event(story: Story) -> None:
    story.be(dead={PART: ["c"], OTHER: ["a"]})


def bury_a_batch_whole(story: Story) -> None:
    story.tell("bury", batch=BATCH, value=True)


def bury_two_bad_events_together(story: Story) -> None:
    story.tell("record", INVOKE, events=["d", "e"], poison=["d", "e"])
    story.be(dead={PART: ["c"], OTHER: ["d", "e"]})


def never_find_a_bad_event(story: Story) -> None:
    story.be(dead={})


def bury_what_was_claimed_and_never_ran(story: Story) -> None:
    story.without("run")


def bury_what_failed_too_seldom(story: Story) -> None:
    story.be(max_retries=3)


def have_too_many_in_flight(story: Story) -> None:
    story.tell("in_flight", batches=21)


def stop_late(story: Story) -> None:
    story.tell("stop", INVOKE, pid=3)
    story.now += STOP_SECONDS
    story.tell("stop", pid=3)


def handle_late_while_stopping(story: Story) -> None:
    story.tell("run", INVOKE, batch=OTHER, attempt=1, events=["a"])
    story.tell("run", batch=OTHER)
    story.tell("stop", INVOKE, pid=3)
    story.now += STOP_SECONDS
    story.tell("handle", pid=3, batch=OTHER, events=["a"], dead=False)
    story.tell("stop", pid=3)


def never_end_a_stop(story: Story) -> None:
    story.tell("stop", INVOKE, pid=3)
    story.tell("drained")


def leave_a_batch_in_flight(story: Story) -> None:
    story.be(left="1 batch is in flight")


def leave_a_ledger_that_disagrees(story: Story) -> None:
    story.be(findings=["mb:{chaos}:stats: 3 events were cut, but 2 are accounted for"])


def leave_a_job(story: Story) -> None:
    story.be(jobs_kept=["rq:job:1"])


BREACHES: dict[Callable[[Story], None], str] = {
    lose_a_result: "nothing_lost",
    run_what_nobody_recorded: "nothing_invented",
    run_what_was_refused: "nothing_invented",
    put_an_event_into_two_batches: "one_batch",
    put_an_event_into_a_batch_twice: "one_batch",
    handle_an_event_with_two_batches: "one_outcome",
    handle_an_event_that_is_dead: "one_outcome",
    commit_twice: "one_entry",
    deliver_two_entries_of_a_batch: "one_entry",
    add_an_entry_too_many: "entries_added",
    never_deliver_an_entry: "entries_added",
    count_an_event_too_few: "counted",
    read_a_batch_otherwise: "one_content",
    handle_what_the_batch_does_not_have: "one_content",
    cut_under_a_token_that_does_not_hold_the_lease: "fenced",
    cut_after_another_became_active: "fenced",
    run_what_was_never_cut: "cut_once",
    bury_a_good_event: "only_poison_dies",
    bury_a_batch_whole: "only_poison_dies",
    bury_two_bad_events_together: "only_poison_dies",
    never_find_a_bad_event: "poison_found",
    bury_what_was_claimed_and_never_ran: "dies_after_failures",
    bury_what_failed_too_seldom: "dies_after_failures",
    have_too_many_in_flight: "bounded",
    stop_late: "stops_end",
    handle_late_while_stopping: "stops_end",
    never_end_a_stop: "stops_end",
    leave_a_batch_in_flight: "drained",
    leave_a_ledger_that_disagrees: "drained",
    leave_a_job: "tidy",
}


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.__name__)
def test_each_breach_is_named(breach: Callable[[Story], None]) -> None:
    story = told()
    breach(story)
    assert BREACHES[breach] in story.broken()


def test_each_rule_has_a_breach() -> None:
    """Those of the rules about replies are in `test_replies`."""
    others = {rule.__name__ for rule in RULES if rule.__module__ != replies.__name__}
    assert set(BREACHES.values()) == others


def test_a_cut_that_was_begun_before_is_no_breach() -> None:
    story = told()
    begun = story.now
    story.tell("acquire", pid=2, token="t2", value=True)
    story.tell("cut", token="t1", batches=[OTHER], sizes=[1], since=begun)
    assert "fenced" not in story.broken()


def test_a_batch_that_killed_its_workers_may_die_without_a_failure() -> None:
    story = told()
    bury_what_was_claimed_and_never_ran(story)
    for pid in range(4):
        story.tell("run", INVOKE, pid=10 + pid, batch=PART, attempt=1, events=["c"])
    assert "dies_after_failures" not in story.broken()


def test_a_stop_may_wait_for_what_was_recorded_before_it() -> None:
    story = told()
    story.tell("record", INVOKE, events=["d"])
    story.tell("stop", INVOKE, pid=3)
    story.now += 60
    story.tell("handle", batch=OTHER, events=["d"], dead=False)
    story.now += STOP_SECONDS - 2
    story.tell("stop", pid=3)
    assert "stops_end" not in story.broken()


def test_a_stop_is_excused_while_the_server_is_away() -> None:
    story = told()
    story.tell("stop", INVOKE, pid=3)
    begun = story.now
    story.now += 4
    story.tell("fault", kind="server", target="server", victim=0, since=begun)
    story.tell("stop", pid=3)
    assert "stops_end" not in story.broken()


def test_a_stop_of_a_process_that_was_killed_need_not_end() -> None:
    story = told()
    story.tell("stop", INVOKE, pid=3)
    story.tell("fault", kind="kill", target="stopper-1", victim=3)
    story.tell("drained")
    assert "stops_end" not in story.broken()


def killed(target: str) -> Story:
    """Worker 7 has a batch in hand and scheduler 8 the lease, when one of them is killed."""
    story = Story()
    story.tell("acquire", pid=8, token="t8", value=True)
    story.tell("run", INVOKE, pid=7, batch=BATCH, attempt=1, events=EVENTS)
    story.tell("fault", kind="kill", target=target, victim={"worker-1": 7, "scheduler-1": 8}[target])
    return story


@pytest.mark.parametrize(("seconds", "late"), [(14.0, False), (15.5, True)])
def test_a_killed_workers_batch_runs_again_in_time(seconds: float, late: bool) -> None:
    story = killed("worker-1")
    story.now += seconds - 1
    story.tell("claim", pid=9, batch=BATCH, attempt=2, parent="", events=EVENTS)
    assert [recovery.seconds for recovery in recoveries(Evidence.of(story.notes))] == [seconds]
    assert bool(list(in_time(Evidence.of(story.notes)))) is late


@pytest.mark.parametrize(("seconds", "late"), [(2.5, False), (3.5, True)])
def test_a_killed_scheduler_is_replaced_in_time(seconds: float, late: bool) -> None:
    story = killed("scheduler-1")
    story.now += seconds - 1
    story.tell("acquire", pid=9, token="t9", value=True)
    assert bool(list(in_time(Evidence.of(story.notes)))) is late


def test_a_run_that_ends_during_its_workers_kill_needs_no_recovery() -> None:
    story = killed("worker-1")
    story.notes.insert(-1, dataclasses.replace(story.notes[-2], state=OK))
    assert not list(recoveries(Evidence.of(story.notes)))


def test_a_batch_that_never_runs_again_is_late() -> None:
    assert list(in_time(Evidence.of(killed("worker-1").notes)))


@pytest.mark.parametrize(("seconds", "late"), [(4.5, False), (5.5, True)])
def test_twice_the_time_that_the_server_was_away_is_excused(seconds: float, late: bool) -> None:
    story = killed("scheduler-1")
    story.tell("fault", kind="server", target="server", victim=0, since=story.now)
    story.now += seconds - 2
    story.tell("acquire", pid=9, token="t9", value=True)
    assert bool(list(in_time(Evidence.of(story.notes)))) is late


@pytest.mark.parametrize(("seconds", "late"), [(6.5, False), (7.5, True)])
def test_a_killed_standby_has_its_time_from_its_return_on(seconds: float, late: bool) -> None:
    story = killed("scheduler-1")
    story.tell("fault", kind="kill", target="scheduler-2", victim=6)
    story.now += 2
    story.tell("start", who="scheduler-2")
    story.now += seconds - 5
    story.tell("acquire", pid=9, token="t9", value=True)
    assert bool(list(in_time(Evidence.of(story.notes)))) is late


@pytest.mark.parametrize("enqueued", [True, False])
def test_a_fault_of_another_worker_counts_if_it_may_have_had_the_job(enqueued: bool) -> None:
    story = killed("worker-1")
    story.now += 8
    if enqueued:
        story.tell("enqueue_again", batches=[BATCH])
    story.tell("fault", kind="stop", target="worker-2", victim=5, since=story.now)
    story.now += 10
    story.tell("claim", pid=9, batch=BATCH, attempt=2, parent="", events=EVENTS)
    assert bool(list(in_time(Evidence.of(story.notes)))) is not enqueued


def test_faults_that_overlap_are_counted_once() -> None:
    story = killed("scheduler-1")
    begun = story.now
    story.now += 2
    for _ in range(2):
        story.tell("fault", kind="silence", target="scheduler-2", victim=6, since=begun)
    assert [recovery.excused for recovery in recoveries(Evidence.of(story.notes))] == [4.0]


def test_a_fault_of_a_producer_is_no_excuse() -> None:
    story = killed("scheduler-1")
    story.tell("fault", kind="stop", target="producer-1", victim=5, since=story.now)
    story.now += 6
    story.tell("acquire", pid=9, token="t9", value=True)
    assert list(in_time(Evidence.of(story.notes)))


def test_a_line_is_read_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "history"
    first, second = (Note(1.0, "worker-1", 2, what).encode() for what in ("run", "handle"))
    path.write_bytes(first + second[:9])
    notes, offset = read_on(path, 0)
    assert [note.what for note in notes] == ["run"]
    path.write_bytes(first + second)
    notes, offset = read_on(path, offset)
    assert [note.what for note in notes] == ["handle"]
    assert read_on(path, offset) == ([], len(first + second))
