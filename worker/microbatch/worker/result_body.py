"""The body of a result: its JSON, within the bound that the settings give."""

from __future__ import annotations

from microbatch.broker.errors import EncodeError
from microbatch.broker.wire import codec


def result_body(result: object, most_bytes: int) -> bytes:
    """The JSON of a result. Raises EncodeError if it has none, or more than ``most_bytes``.

    Checked here, because the server would close the connection, which looks like an outage.
    """
    body = codec.encode(result, "result")
    if len(body) > most_bytes:
        raise EncodeError(
            f"the result has {len(body):,} bytes; the most is {most_bytes:,} (max_result_bytes)"
        )
    return body
