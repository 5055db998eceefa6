"""What waits on the results stream, as those see it who do not handle it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from microbatch.broker.errors import Refused
from microbatch.broker.keys import Keys
from microbatch.broker.server import Server


class Unhandled:
    """The results and failures of one batcher that no handler has finished with."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._key = keys.results

    def count(self) -> int:
        """How many there are."""
        return int(self._server.do("XLEN", self._key))

    def last_id(self) -> str:
        """The id of the newest entry that was ever added; "0-0" if none was."""
        fields = iter(self._info("STREAM", self._key))
        last: bytes = dict(zip(fields, fields, strict=True)).get(b"last-generated-id", b"0-0")
        return last.decode()

    def any_up_to(self, entry_id: str) -> bool:
        """Whether an entry up to this id is still there."""
        return bool(self._server.do("XRANGE", self._key, "-", entry_id, "COUNT", 1))

    def _info(self, *what: str) -> Sequence[Any]:
        """What the server says of the stream or its group; nothing if that is not there."""
        try:
            found: Sequence[Any] = self._server.do("XINFO", *what)
        except Refused as error:
            if "NOGROUP" not in str(error) and "no such key" not in str(error):
                raise
            return ()
        return found
