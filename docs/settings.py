"""Writes the table of settings in operations.md, from Config. Run it after a setting was changed:

python docs/settings.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt
from pydantic.fields import FieldInfo

from microbatch.broker.app.config import Config
from microbatch.broker.app.durations import Duration, read_duration

PAGE = Path(__file__).with_name("operations.md")
BEGIN = "<!-- settings: written by docs/settings.py -->\n"
END = "<!-- end of settings -->\n"

_KINDS: dict[Any, str] = {
    Duration | None: "duration",
    bool: "true or false",
    float: "number",
    int: "integer",
    int | None: "integer",
    int | str: "integer > 0, `workers` or `N*workers`",
    str: "text",
    str | None: "text",
    Any: "function",
    tuple[type[BaseException], ...]: "classes of errors",
}


def table() -> str:
    """The settings as a Markdown table."""
    rows = [_row(name, field) for name, field in Config.model_fields.items()]
    head = ("setting", "in the environment", "value", "default", "meaning")
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def with_table(page: str) -> str:
    """The page with the table as it has to be. Raises ValueError if the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks {BEGIN!r} or {END!r}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _row(name: str, field: FieldInfo) -> tuple[str, ...]:
    default = "must be given" if field.is_required() else _shown(field.default)
    variable = f"{Config.model_config['env_prefix']}{name}".upper()
    return f"`{name}`", f"`{variable}`", _value(field), default, field.description or ""


def _value(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(field.annotation))
    reads = [getattr(item, "func", None) for item in field.metadata]
    kind = "duration" if read_duration in reads else _KINDS[field.annotation]
    for limit in field.metadata:
        if isinstance(limit, Gt):
            return f"{kind} > {limit.gt}"
        if isinstance(limit, Ge):
            return f"{kind} ≥ {limit.ge}"
    return kind


def _shown(default: object) -> str:
    return "none" if default is None else f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
