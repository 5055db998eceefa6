"""Ends forks that a processor makes, so that they do none of the worker's work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import util

from microbatch.broker.process.loggable import trace


@contextmanager
def forks_end_here() -> Iterator[None]:
    """End every process but this one when it leaves the block, with the exit code that a program would have.

    Otherwise a fork would go on as a second worker of the same name, which no pool would end.
    """
    pid = os.getpid()
    code: object = 0
    try:
        yield
    except SystemExit as leaving:
        code = leaving.code
        raise
    except BaseException as error:
        code = 1
        if os.getpid() != pid:
            sys.stderr.write(f"{trace(error)}\n")  # not its text, which may quote an event
            sys.stderr.flush()
        raise
    finally:
        if os.getpid() != pid:
            # multiprocessing calls these at a program's end, and os._exit() does not.
            util._run_finalizers(0)  # type: ignore[attr-defined] # noqa: SLF001 - it has no other name
            sys.stdout.flush()
            os._exit(code if isinstance(code, int) else int(code is not None))
