"""A limits file: TOML with the tables of a sensor's limits, `interval_s`, and which quantity it is. Reads files."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from schemas.devices import Limits
from schemas.errors import Refused

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
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"[{table}]{key}: is missing"
    got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
    return f"[{table}]{key}: {message}{got}"


def _table(name: str) -> type[BaseModel]:
    annotation: Any = Limits.model_fields[name].annotation
    found = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next(kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseModel))
