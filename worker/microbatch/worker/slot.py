"""The slot: memory in which a worker process notes its claims, and which its pool reads.

From the slot the pool sends the worker's heartbeats, also while a processor holds the interpreter's lock, and
gives back the batches of a worker that it has ended. A worker without a pool has a slot of its own.

A slot has room for two claims, because a worker commits one batch and claims the next in one round trip. It
has no lock, so neither side waits for the other, and a process that is killed leaves nothing locked. A
checksum detects a claim that is read while it is written, and the claim is read again.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

_SIZE = 8_192
_HEAD = struct.Struct("=II")  # the description's length and checksum
_CLAIM = struct.Struct("=dd")  # claimed_at and limit_at
_BODY = struct.Struct("=d200s")  # due_ms and the owner
_SUM = struct.Struct("=I")
_MOMENT = struct.Struct("d")  # at a multiple of 8 bytes, so that no reader sees half of it
_CLAIMS_AT = (7_168, 7_680)
_TRIES = 3


@dataclass(frozen=True, slots=True)
class NotedClaim:
    """A claim in a slot. Its times are of `time.monotonic`, except ``due_ms``."""

    owner: str
    due_ms: int
    """The due time that the claim was made with, by the server's clock (unix ms)."""
    claimed_at: float
    limit_at: float
    """When the process must be ended."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a pool needs to know about a worker, because the pool may not have imported the app."""

    url: str
    key_prefix: str
    name: str
    queue: str
    job_prefix: str
    ttl_ms: int
    """How long the worker may be silent."""
    beat_seconds: float
    shown_seconds: int
    """How long RQ still shows the worker after the last sign of life."""
    worker: str = ""
    """The key of RQ's record of the worker."""
    worker_sets: tuple[str, ...] = ()
    """The keys of RQ's sets of workers."""


class Slot:
    """One worker process's slot. One process writes it, and any process may read it."""

    def __init__(self, fd: int = -1) -> None:
        self._memory = mmap.mmap(fd, _SIZE)
        self._owners = ["", ""]
        self._running: int | None = None

    # The worker's side.

    def describe(self, description: Description) -> None:
        """Write what the pool needs to know about this worker."""
        text = json.dumps(asdict(description)).encode()
        if len(text) > _CLAIMS_AT[0] - _HEAD.size:
            raise ValueError("a slot's description is too long")
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        self._memory[: _HEAD.size] = _HEAD.pack(len(text), zlib.crc32(text))

    def claim(self, owner: str, due_ms: int) -> int:
        """Note a claim that is about to be made, beside the claim of the current run. Returns its place."""
        place = 1 if self._running == 0 else 0
        body = _BODY.pack(due_ms, owner.encode())
        at = _CLAIMS_AT[place]
        claim = _CLAIM.pack(time.monotonic(), inf) + body + _SUM.pack(zlib.crc32(body))
        self._memory[at : at + len(claim)] = claim
        self._owners[place] = owner
        return place

    def begin(self, owner: str, limit_at: float) -> None:
        """Note that the batch that this owner has claimed is run now, until ``limit_at`` at most."""
        place = self._owners.index(owner) if owner in self._owners else self.claim(owner, 0)
        self._running = place
        self._set(place, 8, limit_at)

    def limitless(self) -> None:
        """Remove the time limit of the current run."""
        if self._running is not None:
            self._set(self._running, 8, inf)

    def over(self) -> None:
        """Note that the current run is over."""
        if self._running is not None:
            self._set(self._running, 0, inf)
            self._owners[self._running] = ""
            self._running = None

    def unclaim(self) -> None:
        """Note that the last claim found no batch."""
        place = 1 if self._running == 0 else 0
        self._set(place, 0, inf)
        self._owners[place] = ""

    def _set(self, place: int, offset: int, moment: float) -> None:
        # Not pack_into, which clears the bytes first: the pool could read 0.0, and end a healthy worker.
        at = _CLAIMS_AT[place] + offset
        self._memory[at : at + _MOMENT.size] = _MOMENT.pack(moment)

    # The reader's side.

    def description(self) -> Description | None:
        """The worker's description; None if it is not written yet."""
        length, checksum = _HEAD.unpack_from(self._memory)
        text = self._memory[_HEAD.size : _HEAD.size + min(length, _SIZE)]
        if not length or zlib.crc32(text) != checksum:
            return None
        said: dict[str, Any] = json.loads(text)
        return Description(**{**said, "worker_sets": tuple(said["worker_sets"])})

    def claims(self) -> list[NotedClaim]:
        """The claims at this moment."""
        return [claim for place in range(2) if (claim := self._read(_CLAIMS_AT[place])) is not None]

    def _read(self, at: int) -> NotedClaim | None:
        for _ in range(_TRIES):
            raw = self._memory[at : at + _CLAIM.size + _BODY.size + _SUM.size]
            claimed_at, limit_at = _CLAIM.unpack_from(raw)
            body = raw[_CLAIM.size : -_SUM.size]
            if claimed_at in (0, inf):
                return None
            if zlib.crc32(body) == _SUM.unpack_from(raw, len(raw) - _SUM.size)[0]:
                due_ms, owner = _BODY.unpack(body)
                text = owner.rstrip(b"\0").decode("utf-8", "replace")
                return NotedClaim(text, int(due_ms), claimed_at, limit_at)
        return None


def slot_file() -> int:
    """Make a new file for a slot, without a name in any folder. Returns its descriptor."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("microbatch-slot")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _SIZE)
    return fd
