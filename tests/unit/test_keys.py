"""The names of the keys, as operators find them on the server."""

from __future__ import annotations

from microbatch.broker.state.keys import Keys

PARTS = [
    "breaker", "config", "dead", "progress", "events", "failing", "flushes", "held", "inflight", "lease",
    "results", "schedulers", "seen", "stats",
]  # fmt: skip


def test_every_key_carries_the_prefix_and_the_hash_tag() -> None:
    keys = Keys("mb", "letters")
    assert set(vars(keys)) == {*PARTS, "wake", "queue", "prefix", "name"}  # the queue's name is not a key
    assert [getattr(keys, part) for part in PARTS] == [f"mb:{{letters}}:{part}" for part in PARTS]
    assert keys.batch("0a1b") == "mb:{letters}:batch:0a1b"
    assert keys.quarantine("0a1b") == "mb:{letters}:quarantine:0a1b"


def test_batchers_and_prefixes_share_no_key() -> None:
    every = {
        getattr(Keys(prefix, name), part)
        for prefix in ("mb", "test")
        for name in ("letters", "numbers")
        for part in PARTS
    }
    assert len(every) == 4 * len(PARTS)
