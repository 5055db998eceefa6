"""The Lua scripts: one verb, one file.

Each opens with its keys, its arguments, what it returns and what it costs. Scripts are sent by
hash and loaded when the server does not know them; inside a transaction their whole text is sent,
because there an unknown hash would fail after its neighbours were done.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the hash that the server knows it by."""

    name: str
    text: str = field(repr=False)
    sha: str


def _load(name: str, *shared: str) -> Script:
    """The script ``name``, behind the functions that it shares with others."""
    folder = files("microbatch.broker.lua")
    paths = [*(folder.joinpath("shared", f"{other}.lua") for other in shared), folder.joinpath(f"{name}.lua")]
    text = "\n".join(path.read_text("utf-8") for path in paths)
    return Script(name, text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - the server's own choice


AUDIT = _load("audit")
BURY = _load("bury", "tell")
CLAMP = _load("clamp")
COMMIT = _load("commit", "tell")
CUT = _load("cut")
DIVIDE = _load("divide", "tell")
DUE = _load("due")
FAIL = _load("fail")
FIND_CLAIM = _load("find_claim")
GIVE_BACK = _load("give_back")
ACKNOWLEDGE = _load("acknowledge")
HAND_BACK = _load("hand_back")
SWAP_RUN = _load("swap_run")
HOLD_BACK = _load("hold_back")
EXTEND_CLAIM = _load("extend_claim")
LEAVE_GROUP = _load("leave_group")
PURGE = _load("purge")
QUARANTINE_BATCH = _load("quarantine_batch")
RECORD = _load("record")
RELEASE_LEASE = _load("release_lease")
RENEW_LEASE = _load("renew_lease")
REPLAY = _load("replay")
RESCHEDULE = _load("reschedule")
RETIRE = _load("retire")
RETRY = _load("retry", "tell")
REQUEUE = _load("requeue")
SEIZE_LEASE = _load("seize_lease")
QUARANTINE_KEYS = _load("quarantine_keys")
QUARANTINE_ENTRY = _load("quarantine_entry")
TAKE = _load("take")
TAKE_NEXT = _load("take_next")
