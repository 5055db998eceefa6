"""`make bench`: one cheap row, so that the benchmarks stay runnable."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import soak
from benchmarks.measure import Claim, quantile
from benchmarks.readme import BEGIN, END, put_between_marks, show_load
from benchmarks.rows import load
from benchmarks.tally import Tally, WrongError
from microbatch.broker.broker import Broker
from microbatch.producer import Config
from tests.processes import clean_environment
from tests.servers import RealServer

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path, expected: int = 0) -> None:
    process = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == expected, process.stdout + process.stderr


def test_a_row_is_measured_written_and_shown_in_the_readme(tmp_path: Path) -> None:
    results = tmp_path / "2026-01-02.json"
    run(
        "benchmarks",
        "--only",
        "memory",
        "--only",
        "record",
        "--rounds",
        "2",
        "--seconds",
        "0.1",
        "--output",
        results,
    )
    found: Any = json.loads(results.read_text())
    assert found["machine"]["cores"] > 0
    memory, record = found["rows"]
    assert [row["row"] for row in found["rows"]] == ["memory", "record"]
    assert {figure["system"] for figure in record["figures"]} == {"Microbatch", "bare RPUSH"}
    assert all(len(figure["rounds"]) == 2 for row in found["rows"] for figure in row["figures"])
    (claim,) = memory["claims"]
    assert 150 < memory["figures"][0]["median"] < 1_000
    assert 1 < claim["min"] <= claim["median"] <= claim["max"] < 10
    assert claim["met"] is (claim["median"] <= claim["target"])

    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}\nolder figures\n{END}\nbelow\n")
    run("benchmarks.readme", "--readme", readme, "--results", results)
    text = readme.read_text()
    assert text.startswith(f"above\n{BEGIN}\n| what |")
    assert text.endswith(f"{END}\nbelow\n")
    assert "older figures" not in text
    assert f"| {memory['title']} | " in text
    assert "(benchmarks/results/2026-01-02-sizes.svg)" in text


def test_calls_under_load_are_measured_and_shown(tmp_path: Path) -> None:
    results = tmp_path / "2026-01-02.load.json"
    run("benchmarks", "--only", "load", "--rounds", "1", "--seconds", "0.05", "--output", results)
    found: Any = json.loads(results.read_text())
    (row,) = found["rows"]
    assert [claim["of"] for claim in row["claims"][:8]] == [load.of(calls) for calls in load.LOADS]
    assert all(figure["median"] > 0 for figure in row["figures"])

    page = tmp_path / "performance.md"
    page.write_text(f"above\n{BEGIN}\n{END}\nbelow\n")
    show_load(results, page)
    assert "\n| 2,000 | " in page.read_text()
    assert "(../benchmarks/results/2026-01-02-load.svg)" in page.read_text()


class StalledBatcher:
    """A batcher whose first call holds up all others, and which then answers at once, in batches of two."""

    async def submit(self, number: int, **_options: float) -> tuple[int, int]:
        if number == 0:
            time.sleep(0.5)  # noqa: ASYNC251 - as a client does that is too slow
        return number + 1, 2


def test_a_call_is_timed_from_the_moment_at_which_it_was_meant_to_begin() -> None:
    figures = asyncio.run(load.at_random(StalledBatcher(), load=1_000, count=10))  # type: ignore[arg-type]
    assert figures["p50 ms"] > 400
    assert figures["events/batch"] == 2


def test_the_moments_of_calls_are_random_and_always_the_same() -> None:
    moments = list(load.moments(100, 10_000))
    assert moments == sorted(moments) == list(load.moments(100, 10_000))
    assert 90 < moments[-1] < 110


def test_the_soak_sees_what_grows(valkey_server: RealServer) -> None:
    broker = Broker(Config(name="soak", redis_url=valkey_server.url))
    first = soak.sample(broker, os.getpid())
    valkey_server.admin.set("large", "x" * 5_000_000)
    second = soak.sample(broker, os.getpid())
    rows = {
        name: after - before <= allowed
        for name, before, after, allowed in soak.growth([first] * 6 + [second] * 2)
    }
    assert not rows["server memory, bytes"]
    assert rows["keys"]
    assert second.keys - first.keys == 1
    valkey_server.admin.delete("large")
    broker.close()


def test_a_text_without_a_place_for_the_figures() -> None:
    with pytest.raises(ValueError, match="no place"):
        put_between_marks("# Microbatch\n", "| |")


@pytest.mark.parametrize(("count", "total"), [(29, 0), (30, 1), (31, 0)])
def test_a_wrong_result_fails(count: int, total: int) -> None:
    tally = Tally(30)
    tally.add(count, total)
    with pytest.raises(WrongError):
        tally.check()


def test_a_ratio_is_each_round_s_own() -> None:
    claim = Claim("calls/s", "us", 2.0, "them")
    assert claim.ratios({("us", "calls/s"): [4.0, 9.0], ("them", "calls/s"): [2.0, 3.0]}) == [2.0, 3.0]
    assert claim.met(2.0)
    assert not claim.met(1.9)
    assert not Claim("ms", "us", 2.0, at_most=True).met(2.1)


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([5.0], 0.99) == 5.0
