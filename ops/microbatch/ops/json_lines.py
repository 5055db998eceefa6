"""Lines of JSON, for other programs to read."""

from __future__ import annotations

import json

from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python


def json_line(value: object) -> bytes:
    """The value as JSON on one line, without its end.

    NaN and the infinities, which travel as such but which JSON has no words for, are null. Half a surrogate
    pair, as undecodable file names have, has no UTF-8, and is written as JSON's own escape.
    """
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:
        return json.dumps(to_jsonable_python(value, inf_nan_mode="null"), separators=(",", ":")).encode()
