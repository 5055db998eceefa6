"""Settings that make little sense together are reported once."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from microbatch.broker.app.config import Config
from microbatch.broker.app.contradictions import contradictions, mistyped, warn_of_contradictions

SOUND: list[dict[str, Any]] = [
    {},
    {"max_waiting": 100, "max_size": 100, "block_when_full": 5},
    {"retry_delay": 5, "max_retry_delay": 5, "retry_for": 5},
    {"max_retries": 0, "retry_for": 0},
    {"retry_delay": 0, "retry_for": 0},
    {"retry_on": OSError, "give_up_on": ConnectionError},  # all of OSError except that
    {"results": "discard"},
    {"results_max": 10},
    {"eager": True},
    {"eager": True, "max_in_flight": 99},
    {"eager": True, "max_waiting": 50},  # it waits for no tick
]
NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"max_waiting": 99}, "max_waiting (99) is less than max_size (100)"),
    ({"block_when_full": 1}, "block_when_full has no effect without max_waiting"),
    ({"results": "discard", "results_max": 10}, "results_max has no effect with results='discard'"),
    ({"eager": True, "max_in_flight": 1000}, "with eager, up to max_in_flight (1,000) batches are cut while"),
    ({"retry_delay": 31}, "retry_delay (31 s) is longer than max_retry_delay (30 s)"),
    ({"retry_for": 0.5}, "retry_for (0.5 s) is over before the first retry, after retry_delay (1 s)"),
    ({"retry_on": ConnectionError, "give_up_on": OSError}, "retry_on has no effect for ConnectionError"),
    ({"retry_on": (OSError, ValueError), "give_up_on": ValueError}, "retry_on has no effect for ValueError"),
]


@pytest.mark.parametrize("settings", SOUND, ids=str)
def test_what_makes_sense_is_not_reported(settings: dict[str, Any]) -> None:
    assert list(contradictions(Config(name="letters", **settings))) == []


@pytest.mark.parametrize(("settings", "line"), NONSENSE, ids=[line for _, line in NONSENSE])
def test_what_makes_no_sense_is_reported_in_one_line(settings: dict[str, Any], line: str) -> None:
    (told,) = contradictions(Config(name="letters", **settings))
    assert told.startswith(line)


def test_a_mistyped_variable_is_told_and_others_are_not() -> None:
    mistakes = ["MICROBATCH_MAX_SISE", "MICROBATCH_MAX_SIZE", "MAX_SISE"]
    others = ["APP", "LOG_LEVEL", "WORKERS", "VALKEY", "IMAGE", "REQUIRE"]
    environment = dict.fromkeys([*mistakes, *(f"MICROBATCH_{name}" for name in others)], "")
    told = "MICROBATCH_MAX_SISE is not a setting; did you mean MICROBATCH_MAX_SIZE?"
    assert list(mistyped(environment)) == [told]


def test_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    config = Config(name="contradicting", max_waiting=1)
    with caplog.at_level(logging.WARNING):
        warn_of_contradictions(config)
        warn_of_contradictions(config)
    (record,) = caplog.records
    assert record.getMessage().startswith("contradicting: max_waiting (1) is less than max_size (100)")
