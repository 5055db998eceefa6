"""Backoff: the log of a server that fails or refuses for a while."""

from __future__ import annotations

import pytest

from microbatch.broker.errors import (
    BatcherFull,
    InDoubt,
    MicrobatchError,
    Refused,
    RefusedForNow,
    Unavailable,
)
from microbatch.broker.transport import backoff as module
from microbatch.broker.transport.backoff import Backoff
from tests.doubles import set_time

AWAY, LOST = Unavailable("no server"), InDoubt("lost")
NO, FULL, LATER = Refused("no"), BatcherFull("full"), RefusedForNow("later")

Step = MicrobatchError | float | str
"""An error, some seconds that pass, or a success: of "some" of the calls, or of "all"."""


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        pytest.param(["some"], [], id="nothing was wrong"),
        pytest.param([AWAY, AWAY, LOST, "some", "some"], ["no server", "answers"], id="an outage"),
        pytest.param([AWAY, "some", AWAY, "some"], ["no server", "answers"] * 2, id="two outages"),
        pytest.param([NO, NO, "some", 1, NO, "some"], ["no"], id="refused now and then"),
        pytest.param([NO, "some", 5, NO, 5, "some", 5, NO, 5, "some"], ["no"], id="every five seconds"),
        pytest.param([NO, "some", 13, "some", "some"], ["no", "no longer"], id="refused no more"),
        pytest.param([LATER, "some", 13, "some"], ["later", "no longer"], id="a state that passed"),
        pytest.param([FULL, "some", 0.1, FULL, "some", 13, "some"], ["full", "no longer"], id="full"),
        pytest.param([NO, "all"], ["no", "no longer"], id="it was all that is tried"),
        pytest.param([AWAY, LATER, AWAY, "some"], ["no server", "later"], id="an outage, then a refusal"),
        pytest.param([NO, 13, "some", NO, "some"], ["no", "no longer", "no"], id="refused again"),
    ],
)
def test_one_line_when_it_begins_and_one_when_it_is_over(
    steps: list[Step], lines: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    set_time(monkeypatch, module, monotonic=lambda: now)
    backoff = Backoff("letters")
    for step in steps:
        match step:
            case MicrobatchError():
                assert 0.1 <= backoff.failed(step) <= 5
            case str():
                backoff.succeeded(everything=step == "all")
            case _:
                now += step
    said = [record.getMessage() for record in caplog.records]
    texts = {
        "answers": "letters: the server answers again",
        "no longer": "letters: the server no longer refuses",
    }
    assert len(said) == len(lines), said
    for line, text in zip(said, lines, strict=True):
        assert line.startswith(texts.get(text, f"letters: {text}; trying again until "))
