"""Events encoded as the bytes of one command."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from microbatch.broker.transport.rpush import RpushEncoder
from microbatch.broker.wire.event import encode_event, event_prefix

KEY = "mb:{größe}:events"


@pytest.mark.parametrize(
    "bodies",
    [
        [b"1"],
        [b""],
        [b"1", b"1", b"22", b"1", b"x" * 100_000],
        [b'"\r\n$3\r\n"', b"\0\xff"],
        [b"%d" % n for n in range(1_000)],
    ],
)
def test_it_is_what_a_client_would_send(bodies: list[bytes]) -> None:
    raws: Any = [encode_event(body, 1_700_000_000_123) for body in bodies]
    expected = hiredis.pack_command(("RPUSH", KEY, *raws))
    assert RpushEncoder(KEY).packed(bodies, event_prefix(1_700_000_000_123)) == expected
    assert RpushEncoder(KEY).packed(raws, b"") == expected
