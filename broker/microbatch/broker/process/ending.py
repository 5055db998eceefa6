"""Ends a process even if threads of the app still run.

At its end, Python waits forever for every thread that is not a daemon. Then a process whose work is done
would stay, and its place in a pool would not be filled again.
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
"""How long the app's threads may go on after the work of the process is done."""
_EXIT_SECONDS = 6.0  # for functions that the app registered; one of ours sends lingering events for 5 seconds


def end_with(main: Callable[[], int]) -> NoReturn:
    """End the process with the exit code that ``main`` returns, even if threads of the app still run.

    The threads have two seconds. Then a log line names them, functions registered with `atexit` are called,
    and the process ends.
    """
    code = 1  # the exit code after any exception
    try:
        code = main()
    finally:
        threading.Thread(target=_end, args=(code,), name="end", daemon=True).start()
    sys.exit(code)


def end_fork_with(main: Callable[[], int]) -> NoReturn:
    """Like `end_with`, for a process that was forked in the middle of a program. It ends as a program does.

    It waits for threads that are not daemons, then calls functions registered with `atexit`. It does not go
    on with what the program was doing at the fork.
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
        # Python would call them only when those threads have ended.
        functions = threading.Thread(target=atexit._run_exitfuncs, daemon=True)  # noqa: SLF001 - no other way
        functions.start()
        functions.join(_EXIT_SECONDS)
    else:
        time.sleep(_EXIT_SECONDS)
        log.warning("ending, although functions that the app registered with atexit go on")
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it can't be written, or is closed; there is nobody to tell
            stream.flush()


def _threads_that_go_on() -> list[str]:
    own = (threading.main_thread(), threading.current_thread())
    return sorted(thread.name for thread in threading.enumerate() if thread not in own and not thread.daemon)
