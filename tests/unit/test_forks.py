"""A fork that a processor makes, and that returns from the processor."""

from __future__ import annotations

import os
import sys

import pytest

from microbatch.worker.forks import forks_end_here


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (lambda: None, 0),
        (lambda: sys.exit(0), 0),
        (lambda: sys.exit(3), 3),
        (lambda: sys.exit("a word"), 1),
        ([].pop, 1),
    ],
)
def test_a_fork_ends_as_a_program_would(leave: object, code: int) -> None:
    assert callable(leave)
    child = 0
    try:
        with forks_end_here():
            child = os.fork()
            if child == 0:
                leave()
    finally:
        if child == 0:  # it came back: end it here, before it runs the other tests
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code


def test_the_process_itself_goes_on() -> None:
    with forks_end_here():
        pass
    with pytest.raises(SystemExit), forks_end_here():
        sys.exit(3)
