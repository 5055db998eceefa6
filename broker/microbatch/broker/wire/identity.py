"""The ids of batches."""

from __future__ import annotations

import re
import secrets

_BATCH_ID = re.compile(r"[0-9a-f]{32}(-[0-9a-f]{16})?")


def new_id() -> str:
    """A random id. A counter would repeat ids if the server lost its last values."""
    return secrets.token_hex(16)


def new_part_id(batch_id: str) -> str:
    """A random id for a part of a batch, or for a part of a part. It begins with the id of the batch cut."""
    return f"{root_of(batch_id)}-{secrets.token_hex(8)}"


def is_batch_id(text: str) -> bool:
    """Whether this can be the id of a batch or of a part of one, and so may be used in a key."""
    return _BATCH_ID.fullmatch(text) is not None


def root_of(batch_id: str) -> str:
    """The id of the batch that was cut: this one, or the one that it is a part of."""
    return batch_id.partition("-")[0]
