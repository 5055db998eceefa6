"""The run record: how a batch's runs have ended, and who runs it now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.run_record import Mode, RunRecord

RUN = RunRecord(5, 3, 1, 1_700_000_000_000, 42, Mode.WHOLE, "host:1:ab")


@pytest.mark.parametrize(
    "run",
    [
        RunRecord(),
        RUN,
        RUN.free(),
        RunRecord(owner="host:1:ab cd\nef"),
        *(replace(RUN, mode=mode) for mode in Mode),
        RunRecord(runs=999_999_999_999_999),
    ],
)
def test_a_run_record_is_read_as_it_was_written(run: RunRecord) -> None:
    assert RunRecord.decode(run.encode().encode()) == run


def test_a_run_record_is_one_line_whose_last_word_is_the_owner() -> None:
    assert RunRecord().encode() == "0 0 0 0 0 whole "
    assert RUN.encode() == "5 3 1 1700000000000 42 whole host:1:ab"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"3", b" host", b"0 host", b"2 host:1:ab", b"0 0 0 0 0 ", b"0 0 0 0 0 whole",
        b"0 0 0 0 whole me", b"0 0 0 0 0 0 whole me", b"-1 0 0 0 0 whole me", b"x 0 0 0 0 whole me",
        b"0 0 0 0 0 none me", b"0 0 0 0 0 WHOLE me", b"1000000000000000 0 0 0 0 whole me",
        b"0  0 0 0 0 whole me", b"\xff\xff x", b'{"v":1}',
    ],
)  # fmt: skip
def test_what_is_no_run_record_is_not_read_as_one(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="run record is malformed"):
        RunRecord.decode(raw)


def test_the_run_is_the_one_after_those_that_ended() -> None:
    assert RunRecord().attempt == 1
    assert RUN.attempt == 6


def test_a_failure_is_a_run_and_may_be_charged() -> None:
    first = RunRecord(owner="me").failed(1_000, charged=True, done=7, mode=Mode.WHOLE)
    assert first == RunRecord(runs=1, failures=1, since_ms=1_000, done=7)
    second = first.failed(2_000, charged=False, done=9, mode=Mode.ISOLATING)
    assert second == RunRecord(runs=2, failures=1, since_ms=1_000, done=9, mode=Mode.ISOLATING)


def test_a_death_is_a_run_and_no_failure() -> None:
    first = RunRecord(owner="me").died(1_000)
    assert first == RunRecord(runs=1, deaths=1, since_ms=1_000)
    second = replace(first, done=7, mode=Mode.PROBE, failures=2).died(2_000)
    assert second == RunRecord(runs=2, failures=2, deaths=2, since_ms=1_000, done=7, mode=Mode.PROBE)
