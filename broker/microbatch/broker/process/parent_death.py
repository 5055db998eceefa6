"""Tying a child process's life to its parent's.

A parent that is killed with SIGKILL runs no code that could end its children; on Linux the kernel does it
instead, when each child has asked for it with ``prctl(PR_SET_PDEATHSIG)``.

Limits, which are prctl(2)'s:

- Linux only. Elsewhere both functions do nothing, and the children of a killed parent live on.
- The "parent" is the *thread* that made the child: start children from a thread that lives as long as the
  process, normally the main one, or they end when that thread does.
- A child's own children don't inherit it; each process asks for itself. It is kept over an ``exec`` of an
  ordinary program, and cleared by one of a set-user-ID program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1

# Looked up once, at import: between fork and exec a child should do as little as it can.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(sig: signal.Signals, parent_pid: int) -> None:
    """Have the kernel send ``sig`` to this process when its parent ends. Call it in the child, first thing.

    ``parent_pid`` is the parent as it was before the fork (its ``os.getpid()``). A parent that ended before
    this call would never be noticed by the kernel, so in that case ``sig`` is sent here and now.

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
            # Until exec, the child still has its parent's handlers, which would take the signal and lose it.
            signal.signal(sig, signal.SIG_DFL)
        die_with_parent(sig, parent_pid)

    return in_child
