"""Ends a child process when its parent ends.

A parent that is killed with SIGKILL can't run code to end its children. On Linux, the kernel ends each child
that has asked for it with ``prctl(PR_SET_PDEATHSIG)``.

The limits are those of prctl(2):

- Linux only. Elsewhere both functions do nothing, and the children of a killed parent live on.
- The "parent" is the *thread* that made the child. Start children from a thread that lives as long as the
  process, normally the main thread. Otherwise they end when that thread ends.
- A child's own children don't inherit the request; each process asks for itself. The request survives an
  ``exec`` of an ordinary program, and is cleared by an ``exec`` of a set-user-ID program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1

# Looked up once, at import: between fork and exec a child should do as little as possible.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(sig: signal.Signals, parent_pid: int) -> None:
    """Ask the kernel to send ``sig`` to this process when its parent ends. Call this first in the child.

    ``parent_pid`` is the parent's ``os.getpid()`` from before the fork. If the parent ended before this call,
    the kernel does not notice, so ``sig`` is sent at once.

    Raises OSError if the kernel refuses.
    """
    if _libc is None:
        return
    if _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(sig), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), sig)


def parent_death(sig: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A ``preexec_fn`` for ``subprocess.Popen``: the new program gets ``sig`` when this process ends.

    Example: ``subprocess.Popen(["valkey-server"], preexec_fn=parent_death())``
    """
    parent_pid = os.getpid()

    def in_child() -> None:
        if sig not in (signal.SIGKILL, signal.SIGSTOP):
            # Until exec, the child still has its parent's handlers, which would swallow the signal.
            signal.signal(sig, signal.SIG_DFL)
        die_with_parent(sig, parent_pid)

    return in_child
