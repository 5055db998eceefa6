"""`microbatch dashboard`: rq-dashboard's pages, as a browser shows them."""

from __future__ import annotations

import html
import http.client
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Command, MakeServer
from tests.processes import Process
from tests.programs import need
from tests.servers import RealServer
from tests.waiting import wait_until

# One batch dies at once, and one stays in a worker's hands.
APP = """\
import time
from pathlib import Path
from microbatch.producer import Config

def total(batch: list[str]) -> int:
    if "x" in batch:
        raise ValueError("x marks the spot")
    if "wait" in batch:
        while not Path("enough").exists():
            time.sleep(0.01)
    return len(batch)

config = Config(name="letters", batch_processor=total, frequency=100, max_size=3, max_retries=0,
                isolate_failures=False)
"""
DEAD = "letters: a batch of 3 events, cut by size"
BUSY = "letters: a batch of 1 event, cut by tick"


class Dashboard:
    """A running dashboard, and what it shows."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.url = process.wait_for_line(r"rq-dashboard of letters on .*: (http://\S+) ")[1]

    def data(self, path: str) -> dict[str, Any]:
        """The data that a page's script requests."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}0/data/{path}.json", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def press(self, path: str) -> None:
        """Send the request of a page's button."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}{path}", data=b"", timeout=10) as answer:
            assert json.load(answer)["status"] == "OK"

    def page(self, path: str, *wanted: str) -> str:
        """The text of a page in a real browser, as soon as the page's scripts have added what is wanted."""
        shown = [""]

        def filled() -> bool:
            shown[0] = self._dump(path)
            return all(text in shown[0] for text in wanted)

        wait_until(filled, message=lambda: f"{wanted} in {shown[0]!r}")
        return shown[0]

    def _dump(self, path: str) -> str:
        with _folder() as profile:
            browser = subprocess.run(
                [
                    *need("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                    "--no-first-run", "--disable-background-networking", "--disable-component-update",
                    "--disable-sync", "--no-proxy-server", f"--user-data-dir={profile}",
                    "--virtual-time-budget=3000", "--dump-dom", f"{self.url}{path}",
                ],
                capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip
        body = re.sub(r"<script.*?</script>", "", browser.stdout, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@contextmanager
def _folder() -> Iterator[Path]:
    # A separate folder: the browser makes sockets in it, and may still write when it is told to end.
    folder = Path(tempfile.mkdtemp(prefix="mb-test-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_dashboard(command: Command, valkey_server: RealServer) -> Dashboard:
    """The dashboard of an empty batcher, which a proxy serves under another name."""
    options = ("--port", "0", "--allow-host", "dashboard.example.com")
    return Dashboard(command("microbatch", "dashboard", "letters", *options, url=valkey_server.url))


@pytest.fixture
def dashboard(command: Command, make_server: MakeServer, tmp_path: Path) -> Dashboard:
    """The dashboard of a batcher with a dead batch and a busy worker, on a server with a password."""
    server = make_server("valkey", tcp=True, password="hunter2")
    (tmp_path / "app.py").write_text(APP)
    command("microbatch", "scheduler", "app.py", url=server.url)
    worker = command("microbatch", "worker", "app.py", url=server.url)
    record = command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n"x"\n', url=server.url)
    assert record.wait() == 0, record.output
    worker.wait_for_line("dead at attempt 1")
    record = command("microbatch", "record", "letters", "--create", stdin='"wait"\n', url=server.url)
    assert record.wait() == 0, record.output
    found = Dashboard(command("microbatch", "dashboard", "letters", "--port", "0", url=server.url))
    wait_until(lambda: BUSY in str(found.data("workers")["workers"][0]["current_job"]))
    return found


def test_a_browser_shows_the_queue_the_dead_batch_and_the_busy_worker(dashboard: Dashboard) -> None:
    need("chromium")
    # Queued, deferred, scheduled, started, finished, failed.
    queues = dashboard.page("", "mb:letters 0 0 0 1 0 1")
    jobs = dashboard.page("0/view/jobs/mb:letters/failed/8/asc/1", DEAD, "ValueError: x marks the spot")
    workers = dashboard.page("0/view/workers", "microbatch.worker.job.run_batch('letters', ")
    assert "hunter2" not in queues + jobs + workers


def test_every_page_s_data_can_be_read(dashboard: Dashboard) -> None:
    (queue,) = dashboard.data("queues")["queues"]
    assert (queue["name"], queue["failed_job_registry_count"]) == ("mb:letters", 1)
    (job,) = dashboard.data("jobs/mb:letters/failed/8/asc/1")["jobs"]
    assert job["description"] == DEAD
    assert dashboard.data(f"job/{job['id']}")["status"] == "failed"
    (worker,) = dashboard.data("workers")["workers"]
    assert worker["current_job"]["description"] == BUSY


def test_it_shows_no_password_and_ends_quietly(dashboard: Dashboard) -> None:
    process = dashboard.process
    process.interrupt()
    assert process.wait() == 130
    (line,) = process.stderr
    assert "hunter2" not in line


# A batch that dies whole, and one of which a part dies, until the file "repaired" exists.
IN_PART = """\
from pathlib import Path
from microbatch.producer import Config, PartialFailure

def total(batch: list[str]) -> int:
    if not Path("repaired").exists():
        if "whole" in batch:
            raise ValueError("all of it")
        if "part" in batch:
            raise PartialFailure({batch.index("part"): "this one"}, result=1)
    return len(batch)

config = Config(name="letters", batch_processor=total, frequency=100, max_size=3, max_retries=0,
                isolate_failures=False)
"""


def test_what_is_requeued_there_is_run_again(
    command: Command, valkey_server: RealServer, tmp_path: Path
) -> None:
    server, url = valkey_server, valkey_server.url
    (tmp_path / "app.py").write_text(IN_PART)
    command("microbatch", "scheduler", "app.py", url=url)
    command("microbatch", "worker", "app.py", url=url)
    for events in (["a", "b", "whole"], ["c", "d", "part"]):
        lines = "".join(f'"{event}"\n' for event in events)
        assert command("microbatch", "record", "letters", "--create", stdin=lines, url=url).wait() == 0
    dashboard = Dashboard(command("microbatch", "dashboard", "letters", "--port", "0", url=url))

    def counted(name: str) -> int:
        return int(server.admin.hget("mb:{letters}:stats", name) or 0)

    def failed() -> list[str]:
        return [job["id"] for job in dashboard.data("jobs/mb:letters/failed/8/asc/1")["jobs"]]

    wait_until(lambda: len(failed()) == 3)  # includes the batch of which a part died, which needs no action
    for job in failed():
        dashboard.press(f"job/{job}/requeue")
    wait_until(lambda: counted("dead_batches") >= 3)  # not repaired, so they die again
    # Another batch succeeds. Otherwise the second failure could mean an outage, and would be held back.
    assert command("microbatch", "record", "letters", "--create", stdin='"good"\n', url=url).wait() == 0
    wait_until(lambda: counted("dead_batches") == 4)
    wait_until(lambda: len(failed()) == 2)
    (tmp_path / "repaired").touch()
    dashboard.press("requeue/mb:letters")  # all failed jobs
    wait_until(lambda: counted("done_events") == 7)
    assert counted("revived_events") == 2 * (3 + 1)
    verify = command("microbatch", "verify", "letters", url=url)
    assert verify.wait() == 0, verify.output
    wait_until(lambda: not failed())


def test_a_unix_socket_will_do(command: Command, valkey_server: RealServer) -> None:
    dashboard = Dashboard(
        command("microbatch", "dashboard", "letters", "--port", "0", url=valkey_server.socket_url)
    )
    assert dashboard.data("queues") == {"queues": []}


def test_it_says_what_to_install(command: Command, tmp_path: Path, valkey_server: RealServer) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'rq_dashboard'\", name='rq_dashboard')"
    (tmp_path / "rq_dashboard.py").write_text(missing)
    process = command(
        "microbatch", "dashboard", "letters", url=valkey_server.url, env={"PYTHONPATH": str(tmp_path)}
    )
    assert process.wait() == 2
    assert process.stderr == [
        (
            "microbatch: error: the dashboard is not installed (rq_dashboard is missing): "
            "`pip install 'microbatch[dashboard]'`, or `pip install '.[dashboard]'` in a checkout"
        )
    ]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"Host": "localhost:{port}"}, 200),
        ("GET", {"Host": "[::1]:{port}"}, 200),
        ("GET", {"Host": "10.1.2.3"}, 200),
        ("GET", {"Host": "dashboard.example.com"}, 200),
        ("GET", {"Host": "evil.example.com"}, 403),
        ("GET", {"Host": "127.0.0.1.evil.example.com:{port}"}, 403),
        ("GET /requeue/mb:letters", {}, 405),
        ("POST", {}, 200),
        ("POST", {"Origin": "http://127.0.0.1:{port}"}, 200),
        ("POST", {"Origin": "http://127.0.0.1:1"}, 403),
        ("POST", {"Origin": "https://evil.example.com"}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_it_refuses_other_sites(
    open_dashboard: Dashboard, method: str, headers: dict[str, str], status: int
) -> None:
    address = urlsplit(open_dashboard.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    sent = {name: value.format(port=address.port) for name, value in headers.items()}
    method, _, path = method.partition(" ")
    path = path or ("/requeue/mb:letters" if method == "POST" else "/0/data/queues.json")
    connection.request(method, path, headers=sent)
    answer = connection.getresponse()
    assert answer.status == status, answer.read()
    connection.close()
