"""Each role as a separate process on one server, as on many hosts."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, MakeServer
from tests.servers import RealServer
from tests.waiting import wait_until


def status_of(command: Command, server: RealServer) -> dict[str, Any]:
    process = command("microbatch", "status", "letters", "--json", url=server.url)
    assert process.wait() == 0, process.output
    found: dict[str, Any] = json.loads(process.stdout[0])
    return found


def test_scheduler_worker_record_and_results(command: Command, letters: str, server: RealServer) -> None:
    scheduler = command("microbatch", "scheduler", "letters:config", url=server.url)
    worker = command("microbatch", "worker", "letters:config", "--concurrency", "2", url=server.url)
    results = command("microbatch", "results", "letters", "--follow", url=server.url)
    record = command(
        "microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n"d"\n"x"\n', url=server.url
    )
    assert record.wait() == 0, record.output
    wait_until(lambda: len(results.stdout) == 2, message=lambda: f"two results; {worker.output}")

    done, dead = sorted((json.loads(line) for line in results.stdout), key=lambda line: "failure" in line)
    assert list(done) == ["batch", "trigger", "size", "attempt", "cut_at", "recorded_at", "result"]
    assert (done["trigger"], done["size"], done["attempt"], done["result"]) == ("size", 3, 1, 7)
    assert (dead["trigger"], dead["size"], dead["attempt"]) == ("tick", 1, 1)
    assert dead["failure"]["error"] == "KeyError: 'x'"
    assert "letters.py" in dead["failure"]["traceback"]
    assert dead["failure"]["events"] == ["x"]

    # Each ends cleanly, in any order.
    for process in (results, worker, scheduler):
        process.terminate()
        assert process.wait() == 0, process.output
    assert "handed over" in scheduler.output
    assert server.admin.xlen("mb:{letters}:results") == 0


def test_a_standby_takes_over(command: Command, letters: str, valkey_server: RealServer) -> None:
    first = command("microbatch", "scheduler", letters, url=valkey_server.url)
    first.wait_for_line("letters: active")
    second = command("microbatch", "scheduler", letters, url=valkey_server.url)

    def schedulers() -> tuple[str, list[str]]:
        scheduler = status_of(command, valkey_server)["scheduler"]
        return scheduler["active"], scheduler["standby"]

    wait_until(lambda: schedulers()[1])
    active, (standby,) = schedulers()
    assert active.endswith(f":{first.pid}")
    assert standby.endswith(f":{second.pid}")
    first.terminate()
    assert first.wait() == 0
    second.wait_for_line("letters: active")
    assert schedulers()[0].endswith(f":{second.pid}")


def test_results_without_follow_end_when_all_is_handled(
    command: Command, letters: str, valkey_server: RealServer
) -> None:
    url = valkey_server.url
    assert command("microbatch", "record", "letters", "--create", stdin='"a"\n' * 7, url=url).wait() == 0
    results = command("microbatch", "results", "letters", url=url)
    results.wait_for_line("7 events wait and no scheduler is active; waiting for one")
    command("microbatch", "scheduler", letters, url=url)
    command("microbatch", "worker", letters, url=url)
    assert results.wait() == 0
    assert sum(json.loads(line)["result"] for line in results.stdout) == 7


def test_results_are_the_app_s_to_handle(command: Command, letters: str, valkey_server: RealServer) -> None:
    url = valkey_server.url
    command("microbatch", "scheduler", letters, url=url)
    command("microbatch", "worker", letters, url=url)
    assert command("microbatch", "record", letters, stdin='"a"\n"b"\n"d"\n', url=url).wait() == 0
    results = command("microbatch", "results", letters, "--handle", url=url)
    assert results.wait() == 0, results.output
    assert results.stdout == ["batch total 7"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_consumer_finishes_the_result_in_hand(
    command: Command, tmp_path: Path, valkey_server: RealServer, number: signal.Signals, code: int
) -> None:
    (tmp_path / "app.py").write_text(
        "import pathlib, time\nfrom microbatch.producer import Config\n"
        "def show(result):\n    print('begun', flush=True)\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.01)\n    print('done', result, flush=True)\n"
        "config = Config(name='letters', batch_processor=len, result_handler=show, frequency=100)\n"
    )
    url = valkey_server.url
    command("microbatch", "scheduler", "app.py", url=url)
    command("microbatch", "worker", "app.py", url=url)
    results = command("microbatch", "results", "app.py", "--handle", "--follow", url=url)
    assert command("microbatch", "record", "letters", "--create", stdin='"a"\n', url=url).wait() == 0
    results.wait_for_line("begun")
    results.send(number)
    (tmp_path / "go").touch()
    assert results.wait() == code, results.output
    assert results.stdout == ["begun", "done 1"]
    assert valkey_server.admin.xlen("mb:{letters}:results") == 0


def test_a_stock_rq_worker_runs_batches(command: Command, letters: str, server: RealServer) -> None:
    command("microbatch", "scheduler", letters, url=server.url)
    worker = command(
        "rq", "worker", "mb:letters", "--url", server.url, "--serializer", "rq.serializers.JSONSerializer",
        env={"MICROBATCH_APP": "letters:config", "MICROBATCH_REDIS_URL": server.url},
    )  # fmt: skip
    assert (
        command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n"d"\n', url=server.url).wait()
        == 0
    )
    results = command("microbatch", "results", "letters", url=server.url)
    assert results.wait() == 0, worker.output
    assert [json.loads(line)["result"] for line in results.stdout] == [7]


def test_a_following_consumer_waits_for_a_server_that_has_gone(
    command: Command, letters: str, make_server: MakeServer
) -> None:
    server = make_server("valkey", appendonly=True)
    url = server.url
    command("microbatch", "scheduler", letters, url=url)
    command("microbatch", "worker", letters, url=url)
    results = command("microbatch", "results", "letters", "--follow", url=url)
    up = ("mb:{letters}:results", "mb:{letters}:lease", "rq:workers:mb:letters")
    wait_until(lambda: server.admin.exists(*up) == len(up))
    server.kill()
    results.wait_for_line("trying again until it answers")
    server.restart()
    assert (
        command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n"d"\n', url=url).wait() == 0
    )
    wait_until(lambda: results.stdout, 20)
    assert json.loads(results.stdout[0])["result"] == 7
    results.terminate()
    assert results.wait() == 0
