"""Classes of errors in settings: classes in code, their names in the environment."""

from __future__ import annotations

import builtins
import importlib
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

ErrorClass = type[BaseException]


def read_error_classes(value: object) -> object:
    """The classes that a text such as ``"OSError, package.module:Name"`` names; one class becomes a tuple.

    Other values are returned unchanged, so that pydantic checks them.

    Raises:
        ValueError: a name can't be found, or is not that of a class of errors.
    """
    if isinstance(value, type):
        return (value,)
    if not isinstance(value, str):
        return value
    return tuple(_find(name.strip()) for name in value.split(",") if name.strip())


def _find(name: str) -> ErrorClass:
    module, _, attribute = name.rpartition(":")
    try:
        found = getattr(importlib.import_module(module) if module else builtins, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name!r} names no class of errors ({error}); write it as 'OSError' or 'package.module:Name'"
        ) from None
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise ValueError(f"{name!r} is not a class of errors")
    return found


ErrorClasses = Annotated[tuple[ErrorClass, ...], NoDecode, BeforeValidator(read_error_classes)]
"""A setting's type: a tuple of classes, one class, or a text with their names."""
