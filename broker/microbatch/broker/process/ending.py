"""The end of a process, which no thread of the app puts off.

Python waits at its end for every thread that is not a daemon, for ever. A process of ours whose work is in
order would stay then, and its place in a pool would stay dead.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
"""How long the app's threads may go on when the work of the process is done."""
_EXIT_SECONDS = 6.0  # of the functions that the app has registered; what lingers is sent for five seconds


def end_with(main: Callable[[], int]) -> NoReturn:
    """End the process with the exit code that ``main`` returns, though threads of the app go on.

    They have two seconds. Then a line names them, functions registered with `atexit` are called, and the
    process ends.
    """
    code = 1  # as of any exception
    try:
        code = main()
    finally:
        threading.Thread(target=_end, args=(code,), name="end", daemon=True).start()
    sys.exit(code)


def end_fork_with(main: Callable[[], int]) -> NoReturn:
    """As `end_with`, for a process that was forked from the middle of a program: it ends as a program does.

    Threads that are not daemons are waited for, then functions registered with `atexit` are called. Nothing
    of what the program was doing at the fork goes on.
    """
    code: object = 1
    try:
        end_with(main)
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001 - as Python does at the end of a program
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - no other way
    atexit._run_exitfuncs()  # noqa: SLF001 - no other way
    _flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _end(code: int) -> None:
    time.sleep(GRACE_SECONDS)
    if names := _threads_that_go_on():
        log.warning("ending, although threads of the app go on: %s", ", ".join(names))
        # Python calls them when those threads have ended, which is what it waits for.
        functions = threading.Thread(target=atexit._run_exitfuncs, daemon=True)  # noqa: SLF001 - no other way
        functions.start()
        functions.join(_EXIT_SECONDS)
    else:
        time.sleep(_EXIT_SECONDS)
        log.warning("ending, although functions of the app that are called at the end go on")
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it can't be written, or is closed; there is nobody to tell
            stream.flush()


def _threads_that_go_on() -> list[str]:
    own = (threading.main_thread(), threading.current_thread())
    return sorted(thread.name for thread in threading.enumerate() if thread not in own and not thread.daemon)
