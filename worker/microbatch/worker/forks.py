"""Forks that a processor makes: they do none of the worker's work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import util

from microbatch.broker.process.loggable import trace


@contextmanager
def forks_end_here() -> Iterator[None]:
    """End any process but this one that leaves the block, with the exit code that a program would have.

    Otherwise it would go on as a second worker of the same name, which nobody ends.
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
            # What multiprocessing calls at a program's end, and os._exit() leaves out.
            util._run_finalizers(0)  # type: ignore[attr-defined] # noqa: SLF001 - it has no other name
            sys.stdout.flush()
            os._exit(code if isinstance(code, int) else int(code is not None))
