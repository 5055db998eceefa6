"""The Lua scripts: one verb, one file.

Each begins with its keys, its arguments, what it returns and what it costs. A script is called by its hash,
and sent in full if the server does not know it. Inside a transaction it is always sent in full, because an
unknown hash would fail there after other commands were done.

The server does not get only the file. It gets, in this order, the functions that the script shares with
others (`shared/`), the script's head, the locals that give the head's names to keys and arguments, and the
body:

    local function wrong_type(key, wanted) ...
    -- cut: move the oldest waiting events into batches, and write each batch into the ledger. ...
    local events, inflight, stats, progress = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
    local KEYS_FROM = 5
    local score, most, in_all, likely = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
    local ARGV_FROM = 5
    ...

A shared function comes first and sees none of these locals. So it gets what it needs as arguments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files

from microbatch.broker.lua.head import Operands, read_head


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, the hash by which the server knows it, and its keys and arguments.

    Calls are not checked against ``keys`` and ``args``, because that would cost time at each call. A test
    checks every verb that calls a script.
    """

    name: str
    text: str = field(repr=False)
    sha: str = field(init=False)
    keys: Operands = field(repr=False)
    args: Operands = field(repr=False)

    def __post_init__(self) -> None:
        sha = hashlib.sha1(self.text.encode()).hexdigest()  # noqa: S324 - the server's own choice
        object.__setattr__(self, "sha", sha)


def _load(name: str, *shared: str) -> Script:
    """Load the script ``name``, with the functions that it shares with others before it.

    Raises:
        ValueError: its head can't be read.
    """
    folder = files("microbatch.broker.lua")
    functions = [folder.joinpath("shared", f"{other}.lua").read_text("utf-8") for other in shared]
    own = folder.joinpath(f"{name}.lua").read_text("utf-8")
    head = read_head(name, own)
    names = head.keys.as_locals() + head.args.as_locals()
    text = "\n".join([*functions, head.text + names + own.removeprefix(head.text)])
    return Script(name, text, head.keys, head.args)


AUDIT = _load("audit")
BURY = _load("bury", "wrong_type", "is_count", "bad_count", "reply", "tell")
CLAMP = _load("clamp")
COMMIT = _load("commit", "wrong_type", "is_count", "bad_count", "reply", "tell")
CUT = _load("cut", "wrong_type", "is_count", "bad_count")
DIVIDE = _load("divide", "wrong_type", "is_count", "bad_count", "reply", "tell")
DUE = _load("due")
FAIL = _load("fail", "wrong_type")
FIND_CLAIM = _load("find_claim")
FLUSHED = _load("flushed")
GIVE_BACK = _load("give_back")
ACKNOWLEDGE = _load("acknowledge")
HAND_BACK = _load("hand_back")
SWAP_RUN = _load("swap_run")
HOLD_BACK = _load("hold_back")
EXTEND_CLAIM = _load("extend_claim")
LEAVE_GROUP = _load("leave_group")
PURGE = _load("purge", "is_count", "bad_count")
QUARANTINE_BATCH = _load("quarantine_batch", "wrong_type")
RECORD = _load("record")
RELEASE_LEASE = _load("release_lease")
RENEW_LEASE = _load("renew_lease")
REPLAY = _load("replay", "wrong_type", "is_count", "bad_count", "without_reply")
RESCHEDULE = _load("reschedule")
RETIRE = _load("retire", "is_count", "bad_count")
RETRY = _load("retry", "tell")
REQUEUE = _load("requeue", "wrong_type", "is_count", "bad_count")
SEIZE_LEASE = _load("seize_lease")
QUARANTINE_KEYS = _load("quarantine_keys", "is_count")
QUARANTINE_ENTRY = _load("quarantine_entry", "wrong_type")
CLAIM = _load("claim")
CLAIM_NEXT = _load("claim_next")
