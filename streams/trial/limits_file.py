"""A limits file: TOML with the tables of a sensor's limits, `interval_s`, and which quantity it is. Reads files."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import Refused
from schemas.limits import Limits

TOP = ("interval_s", "quantity", "statistic")
NEEDS_INTERVAL = ("flat_line", "icing", "stalled_at_offset")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a limits file says."""

    limits: Limits
    interval_s: float | None
    quantity: str  # "wind_direction" for angles
    statistic: str

    def tables(self) -> list[str]:
        """The tests that it has limits for."""
        return [name for name in Limits.model_fields if getattr(self.limits, name) is not None]


def read_limits(path: Path) -> Asked:
    """Raises `Refused` in one line that names table and key."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: {error}") from None
    top = {key: content.pop(key) for key in TOP if key in content}
    interval_s = top.get("interval_s")
    if interval_s is not None and not (
        isinstance(interval_s, int | float) and not isinstance(interval_s, bool) and 0 < interval_s < float("inf")
    ):
        raise Refused(f"{path}: interval_s must be a number of seconds above 0, got {interval_s!r}")
    for key in ("quantity", "statistic"):
        if not isinstance(top.get(key, ""), str):
            raise Refused(f"{path}: {key} must be a word, got {top[key]!r}")
    try:
        limits = Limits.model_validate(content)
    except ValidationError as error:
        raise Refused(f"{path}: {_said(error)}") from None
    needs = [name for name in NEEDS_INTERVAL if getattr(limits, name) is not None]
    if needs and interval_s is None:
        raise Refused(f"{path}: interval_s is missing: [{needs[0]}] counts rows, and the interval is not guessed")
    if not content:
        raise Refused(f"{path}: no limits; tables are {', '.join(Limits.model_fields)}")
    return Asked(limits, interval_s, top.get("quantity", "value"), top.get("statistic", "avg"))


def _said(error: ValidationError) -> str:
    first = error.errors()[0]
    table, *keys = [str(part) for part in first["loc"]] or ["?"]
    key = f" {keys[0]}" if keys else ""
    if first["type"] == "extra_forbidden":
        known = Limits.model_fields if not keys else _table(table).model_fields
        what = "no such key" if keys else "no such table or key"
        return f"{f'[{table}]{key}' if keys else table}: {what}; known: {', '.join([*known, *(() if keys else TOP)])}"
    if first["type"] == "missing" and len(keys) == 1:
        return f"[{table}]{key}: is missing"
    if first["type"] == "value_error":  # names its key and the number that it got
        return f"[{table}]{key}: {str(first['msg']).removeprefix('Value error, ')}"
    return f"[{table}]{key}: expected {_expected(first, table, keys)}, got {_spelled(first['input'])}"


def _expected(error: ErrorDetails, table: str, keys: list[str]) -> str:
    """What should stand there, in the words of the file."""
    kind, context = error["type"], error.get("ctx", {})
    if not keys:
        return f"a table with the keys {', '.join(_table(table).model_fields)}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind.startswith("string") or kind == "string_type":
        return "the name of a column, in quotes"
    if kind == "greater_than_equal":
        return f"a number of {context['ge']:g} or more"
    of_span = kind in {"tuple_type", "too_short", "too_long"} or len(keys) > 1
    return "[min, max], two numbers" if of_span else "a number"


def _spelled(value: Any) -> str:
    """As TOML has it, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _table(name: str) -> type[BaseModel]:
    annotation: Any = Limits.model_fields[name].annotation
    found = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next(kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseModel))
