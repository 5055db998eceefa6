"""The log of a refusal that lasts: one line when it begins, and one when it is over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.fleet import ECHO, Fleet
from tests.integration.test_passing_states import STATES, State
from tests.processes import Process
from tests.servers import RealServer
from tests.waiting import wait_until

LASTS_SECONDS = 11  # longer than the interval of work that is done every five seconds


def one_command(server: RealServer) -> Callable[[], None]:
    """Forbid a command that a scheduler sends every five seconds, and allow everything else."""
    server.admin.execute_command("ACL", "SETUSER", "default", "-hgetall")
    return lambda: server.admin.execute_command("ACL", "SETUSER", "default", "+hgetall")


REFUSING: dict[str, State] = {
    **{name: STATES[name] for name in ("read-only", "out of memory", "without replicas")},
    "one command": one_command,
}

CONSUMER = """\
import logging
from microbatch.producer import Config, start
logging.basicConfig(level="INFO", format="%(message)s")
start(Config(result_handler="builtins:list")).wait_for_results()
"""


@pytest.mark.early
@pytest.mark.leaves("wake")
@pytest.mark.parametrize("state", REFUSING.values(), ids=REFUSING)
def test_a_refusal_that_lasts_is_told_once_and_when_it_is_over(
    make_server: MakeServer, tmp_path: Path, state: State
) -> None:
    server = make_server("valkey")
    with Fleet(server, tmp_path, ECHO, lease_ttl=1) as fleet:
        processes = {"scheduler": fleet.scheduler_process(), "worker": fleet.worker()}
        processes["consumer"] = fleet.run(CONSUMER)
        processes["scheduler"].wait_for_line("active")
        fleet.batcher().record_events([1, 2, 3])
        wait_until(lambda: fleet.broker.stats.counters().done_events == 3, message=fleet.state)
        began = {name: len(process.lines) for name, process in processes.items()}
        end = state(server)
        time.sleep(LASTS_SECONDS)
        end()
        fleet.batcher().record_event(4)
        wait_until(lambda: fleet.broker.stats.counters().done_events == 4, message=fleet.state)
        time.sleep(13)
        told = {name: told_by(process, began[name]) for name, process in processes.items()}
        for name, lines in told.items():
            # A server that becomes a replica also closes the connections of blocked clients.
            allowed = [["refused", "over"], ["away", "refused", "over"]]
            if name != "scheduler":  # only the scheduler does something that is refused in each state
                allowed.append([])
            assert lines in allowed, (name, processes[name].lines)
        for process in processes.values():
            assert not [line for line in process.lines if "no longer active" in line]
        assert len([line for line in processes["scheduler"].lines if ": active" in line]) == 1


def told_by(process: Process, since: int) -> list[str]:
    """What the lines from ``since`` on say about the server."""
    kinds = {
        "away": "broke before|no server",
        "refused": "refused: |does not allow",
        "over": "no longer refuses|answers again",
    }
    return [
        kind for line in process.lines[since:] for kind, pattern in kinds.items() if re.search(pattern, line)
    ]
