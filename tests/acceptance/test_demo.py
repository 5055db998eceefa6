"""`microbatch demo`: the first thing that a new user sees."""

from __future__ import annotations

import re

from tests.conftest import Command
from tests.processes import is_alive
from tests.waiting import wait_until

EVENT = re.compile(r"^ +(\d\.\d{3}) s +recorded (\w)$", re.MULTILINE)
BATCH = re.compile(
    r"^ +(\d\.\d{3}) s +└─▶ batch of (\d) +trigger (\w+) +latency +(\d+) ms +(.+)$", re.MULTILINE
)
SCHEDULE = {1100: "a", 1200: "b", 1300: "d", 2100: "a", 2200: "b", 2300: "c", 2400: "d", 4900: "a"}


def test_it_shows_each_event_and_each_batch_on_schedule(command: Command) -> None:
    demo = command("microbatch", "demo")
    assert demo.wait() == 0, demo.output
    assert demo.stderr == []

    events = EVENT.findall(demo.output)
    assert [letter for _, letter in events] == list(SCHEDULE.values())
    for (shown, _), due_ms in zip(events, SCHEDULE, strict=True):
        assert due_ms <= float(shown) * 1000 < due_ms + 500

    batches = [(size, trigger, said) for _, size, trigger, _, said in BATCH.findall(demo.output)]
    assert batches[:4] == [
        ("2", "size", "total 3"),
        ("1", "tick", "total 4"),
        ("2", "size", "total 3"),
        ("2", "size", "failed: could not map letter 'c'"),
    ]
    # The stop and a tick may fall together.
    assert batches[4:] in ([("1", "tick", "total 1")], [("1", "flush", "total 1")])

    assert "Totals  3, 4, 3, failed: could not map letter 'c', 1" in demo.stdout
    assert demo.stdout[-1] == "Ledger  8 recorded = 8 done + 0 dead + 0 in flight + 0 waiting"


def test_it_uses_no_server_but_its_own(command: Command) -> None:
    demo = command("microbatch", "demo", url="redis://127.0.0.1:1/0", env={"MICROBATCH_MAX_SIZE": "7"})
    assert demo.wait() == 0, demo.output


def test_ctrl_c_ends_it_quietly_and_leaves_nothing(command: Command) -> None:
    demo = command("microbatch", "demo")
    demo.wait_for_line("recorded a")
    family = demo.children()
    demo.interrupt()
    assert demo.wait() == 130
    assert demo.stderr == []
    assert len(family) == 6  # the server, the scheduler, the pool, its fork server and two workers
    wait_until(lambda: not any(map(is_alive, family)))
