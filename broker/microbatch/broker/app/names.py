"""The type of a setting that becomes a part of keys: a name."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def check_name(value: str) -> str:
    """The name. Raises ValueError if it may not be a part of a key."""
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} won't do: use 1 to 100 letters, digits, '_', '.' or '-', not '.' or '-' first"
        )
    return value


Name = Annotated[str, AfterValidator(check_name)]
"""A setting's type: a text that may be a part of a key."""
