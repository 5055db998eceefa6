"""`microbatch up`: the local stack, for use from other shells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.processes import Process, is_alive
from tests.waiting import wait_until


def url_of(up: Process) -> str:
    return up.wait_for_line(r"export MICROBATCH_REDIS_URL=(\S+)")[1]


def test_other_shells_use_it_until_ctrl_c(command: Command, letters: str) -> None:
    up = command("microbatch", "up", letters)
    url = url_of(up)
    up.wait_for_line("microbatch status letters")
    assert "letters is up: a scheduler and 2 workers. Ctrl-C ends them." in up.stderr
    record = command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n"d"\n', url=url)
    assert record.wait() == 0, record.output
    results = command("microbatch", "results", "letters", url=url)
    assert results.wait() == 0, results.output
    assert [json.loads(line)["result"] for line in results.stdout] == [7]

    family = up.children()
    up.interrupt()
    assert up.wait() == 130
    wait_until(lambda: not any(map(is_alive, family)))
    assert not Path(url.removeprefix("unix://")).parent.exists()


def test_data_in_a_folder_outlive_it(command: Command, rare: str, tmp_path: Path) -> None:
    arguments = ("microbatch", "up", rare, "--workers", "1", "--data-dir", tmp_path / "my data")
    up = command(*arguments)
    record = command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n', url=url_of(up))
    assert record.wait() == 0, record.output
    up.terminate()
    assert up.wait() == 0

    up = command(*arguments)
    url = url_of(up)
    status = command("microbatch", "status", "letters", "--json", url=url)
    assert status.wait() == 0, status.output
    assert json.loads(status.stdout[0])["waiting"]["events"] == 2
    assert command("microbatch", "flush", "letters", url=url).wait() == 0
    results = command("microbatch", "results", "letters", url=url)
    assert results.wait() == 0, results.output
    assert [json.loads(line)["result"] for line in results.stdout] == [3]
    up.terminate()
    assert up.wait() == 0


def test_one_folder_serves_one_at_a_time(command: Command, rare: str, tmp_path: Path) -> None:
    first = command("microbatch", "up", rare, "--workers", "1", "--data-dir", tmp_path / "data")
    url_of(first)
    second = command("microbatch", "up", rare, "--data-dir", tmp_path / "data")
    assert second.wait() == 2
    assert second.stderr == [
        f"microbatch: error: another local server runs on the data folder {tmp_path / 'data'}"
    ]
    first.terminate()
    assert first.wait() == 0


def test_a_folder_is_for_a_server_of_its_own(command: Command, letters: str, tmp_path: Path) -> None:
    up = command("microbatch", "up", letters, "--data-dir", tmp_path, url="redis://me:secret@127.0.0.1:1/0")
    assert up.wait() == 2
    (line,) = up.stderr
    assert "--data-dir is for a server of its own, but redis_url is set (redis://127.0.0.1:1/0)" in line


@pytest.mark.parametrize("kill", [True, False])
def test_nothing_outlives_it(command: Command, letters: str, kill: bool) -> None:
    up = command("microbatch", "up", letters)
    folder = Path(url_of(up).removeprefix("unix://")).parent
    family = up.children()
    assert len(family) == 6
    if kill:
        up.kill()
    else:
        up.terminate()
        assert up.wait() == 0
    wait_until(lambda: not any(map(is_alive, family)))
    assert folder.exists() is kill
    if kill:
        shutil.rmtree(folder)  # nobody was left to do this
