"""Encodes values as JSON and decodes them: events for the processor, results for the handler.

A value may be anything that pydantic can encode as JSON: plain values, dataclasses, models, datetimes, UUIDs.
Bytes are encoded as base64. NaN and the infinities are encoded by their names, as in Python's own json
(inside a pydantic model, as the model's own config says). The reader's annotation rebuilds the values.
Without an annotation the reader gets plain JSON values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NewType

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from microbatch.broker.errors import DecodeError, EncodeError
from microbatch.broker.wire.readable import why_unreadable

_CONFIG = ConfigDict(val_json_bytes="base64")
_HAS_NO_JSON = (PydanticSerializationError, ValueError, RecursionError)
_MESSAGE_LENGTH = 200
_NO_JSON = re.compile(r"Unable to serialize unknown type: <class '[\w.]+'>")


def encode(value: object, what: str = "event") -> bytes:
    """The value's JSON. Raises EncodeError, which names the value's type, if it has none that can be read."""
    try:
        body = to_json(value, bytes_mode="base64")
    except _HAS_NO_JSON as error:
        raise _encode_error(value, what, error) from error
    if why := why_unreadable(body):
        raise _encode_error(value, what, why)
    return body


def encode_some(values: Iterator[object], most: int, enough_bytes: int) -> list[bytes]:
    """The JSON of the next ``most`` values, or of fewer if it reaches ``enough_bytes`` or the values end.

    Raises EncodeError, which names the value's type, if one has no JSON that can be read; and whatever
    ``values`` raises.
    """
    bodies: list[bytes] = []
    size = 0
    for value in islice(values, most):
        try:
            bodies.append(body := to_json(value, bytes_mode="base64"))
        except _HAS_NO_JSON as error:
            raise _encode_error(value, "event", error) from error
        if why := why_unreadable(body):
            raise _encode_error(value, "event", why)
        size += len(body)
        if size >= enough_bytes:
            break
    return bodies


def _encode_error(value: object, what: str, error: Exception | str) -> EncodeError:
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    # The error of the value's own serializer, or of a generator, may quote anything.
    public = f"the {what} cannot be encoded as JSON: {name}"
    message = f"{public}: {error}"
    return EncodeError(message, message if _NO_JSON.fullmatch(str(error)) else public)


class Decoder:
    """Rebuilds values of one type from JSON. Each text is parsed on its own, so none can affect another.

    Raises:
        TypeError: pydantic cannot handle the type.
    """

    def __init__(self, value_type: Any) -> None:
        # Under a name of its own, because pydantic accepts no config for a bare dataclass, and would then
        # read its bytes as text.
        value = NewType("value", value_type)  # type: ignore[valid-newtype]
        try:
            self._read = TypeAdapter(value, config=_CONFIG).validator.validate_json
        except PydanticUserError as error:
            raise TypeError(str(error)) from None

    def one(self, body: bytes, what: str = "result") -> Any:
        """The value of one JSON text. Raises DecodeError, which names the field that does not fit."""
        try:
            return self._read(body)
        except ValueError as error:
            kind, details = _describe(error)
            public = f"the {what} does not fit ({kind})"
            raise DecodeError(f"the {what} does not fit: {details}", public) from None

    def many(self, bodies: Sequence[bytes]) -> list[Any]:
        """The values of many JSON texts, in order.

        Raises DecodeError, which names the event's position (from 0) and the field that does not fit.
        """
        # One by one costs as little as all in one array. Positions matter only after an error.
        try:
            return list(map(self._read, bodies))
        except ValueError:
            return [self.one(body, f"event at position {position}") for position, body in enumerate(bodies)]


def _describe(error: Exception) -> tuple[str, str]:
    """The kind of the error, and one line that names the field. Neither has the value that did not fit.

    The line may still quote the value: a field may be one of its keys, and a validator may say anything.
    """
    if not isinstance(error, ValidationError):
        return type(error).__name__, str(error)
    first, *others = error.errors(include_input=False, include_url=False)
    field = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return first["type"], f"{field + ': ' if field else ''}{first['msg'][:_MESSAGE_LENGTH]}{more}"
