"""A signal that asks a command to end, wherever it arrives."""

from __future__ import annotations

import os
import signal

import pytest

from microbatch.ops.termination import Terminated, raise_if_terminated, terminable


def test_a_signal_ends_the_block() -> None:
    with pytest.raises(Terminated) as ended, terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.exit_code == 128 + signal.SIGTERM
    raise_if_terminated()  # the signal was already dealt with


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_where_nothing_can_be_raised_counts_later() -> None:
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        Finalized()
        raise_if_terminated()

    with pytest.raises(Terminated), terminable():
        work()
