"""The folder of a local server: private, and used by one server at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from microbatch.broker.errors import MicrobatchError

LOCK_NAME = "microbatch.lock"

# sun_path holds 108 bytes on Linux and 104 elsewhere, with the final NUL.
_LONGEST_SOCKET_PATH = 103


class LocalServerError(MicrobatchError):
    """The local server could not be started. The message says why, with the end of its log if it has one."""


def short_private_folder() -> Path:
    """Make a new folder of mode 0700 whose path leaves room for a unix socket's name.

    The path has no character that would break the server's list of clients, ``addr=<path>``, for redis-py.
    """
    folder = Path(tempfile.mkdtemp(prefix="microbatch-"))
    path = os.fsencode(folder / "socket")
    if len(path) > _LONGEST_SOCKET_PATH or any(byte in b"= \t\n" for byte in path):
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="microbatch-", dir="/tmp"))
    return folder


def private(path: str, flags: int) -> int:
    """An opener for `open` whose new files only this user can read."""
    return os.open(path, flags, 0o600)


def take_lock(folder: Path) -> int:
    """Make ``folder`` if it is missing, and lock it. Returns the descriptor that holds the lock."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalServerError(f"cannot use the data folder {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise LocalServerError(f"another local server runs on the data folder {folder}") from error
        raise LocalServerError(f"cannot lock the data folder {folder}: {error.strerror}") from error
    return lock
