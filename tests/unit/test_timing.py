"""The times of a batcher are in one place, so that tests change them in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.policy.timing import Timing
from tests.structure import modules
from tests.times import hurry, retime

TESTS = Path(__file__).parents[1]
A_TIME = re.compile(r"_?[A-Z][A-Z_]*_(?:MS|SECONDS)")
SHARED_BELOW = "microbatch.broker.transport.connection"
BOUNDS = ("BAND_MS", "LAST_MS")  # of numbers that stand for times


def test_the_lease_is_renewed_in_time() -> None:
    timing = Timing.of(Config(name="letters", lease_ttl=6))
    assert (timing.acquire_seconds, timing.announce_seconds, timing.renew_seconds) == (0.3, 3.0, 2.0)


def test_each_time_names_its_unit() -> None:
    assert [field.name for field in fields(Timing) if not field.name.endswith(("_ms", "_seconds"))] == []


def test_a_broker_has_the_times_that_it_is_given() -> None:
    config = Config(name="letters", redis_url="redis://localhost")
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch, run_ttl_ms=5)
        hurry(patch, beat_seconds=1.0)
        broker = Broker(config)
    assert (broker.timing.run_ttl_ms, broker.timing.beat_seconds) == (5, 1.0)
    retime(broker, run_ttl_ms=7)
    assert (broker.timing.run_ttl_ms, broker.timing.beat_seconds) == (7, 1.0)
    assert Broker(config).timing == Broker(config, timing=Timing.of(config)).timing == Timing.of(config)


def imported() -> Iterator[tuple[str, str]]:
    for path, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module != SHARED_BELOW:
                yield from ((path, name.name) for name in node.names)


def test_no_module_imports_a_time_from_another() -> None:
    found = [(path, name) for path, name in imported() if A_TIME.fullmatch(name) and name not in BOUNDS]
    assert found == []


def test_no_test_changes_a_time_of_a_module() -> None:
    change = re.compile(rf'setattr\([^)]*\b{A_TIME.pattern}"|\w\.{A_TIME.pattern} = ')
    found = [
        f"{path.relative_to(TESTS)}: {line.strip()}"
        for path in TESTS.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if change.search(line)
    ]
    assert found == []
