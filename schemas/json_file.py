"""A person's JSON file as a model, or one line that says where it is wrong. Knows JSON and pydantic; knows no model.

Every refusal names the file, the JSON path, what was expected, what was got and the line:
`mast.json: measurement_location[0].name must be text, got 7 (line 12)`.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from schemas.errors import Refused

T = TypeVar("T")
Path = Sequence[str | int]

BYTES_MAX = 64 << 20
"""A data model of a mast with a hundred sensors and ten years of changes has 2 MB; parsing takes ten times the size."""

_SPACE = re.compile(r"[ \t\n\r]*")
_SHOWN_MAX = 60


class JsonFile:
    """The text of one JSON file and what it says."""

    def __init__(self, data: bytes, *, name: str) -> None:
        """Raises `Refused` where `data` is not JSON in UTF-8. `name` is what messages call the file."""
        self.name = name
        if len(data) > BYTES_MAX:
            raise Refused(f"{name}: has {len(data)} bytes, more than the {BYTES_MAX} that a JSON file may have")
        try:
            self._text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise Refused(f"{name}: must be text in UTF-8: {error.reason} (line {line})") from None
        try:
            self.value: Any = json.loads(self._text, parse_constant=self._no_number)
        except json.JSONDecodeError as error:
            raise Refused(f"{name}: is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
        except RecursionError:
            raise Refused(f"{name}: is nested too deeply to be a configuration") from None
        except ValueError:
            raise Refused(f"{name}: has a whole number of more than 4300 digits") from None

        if "\\ud" in self._text.lower():  # may be half a character, which no one can write to a wire
            try:
                json.dumps(self.value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise Refused(f"{name}: has half a character (\\ud800 to \\udfff without its partner)") from None

    def _no_number(self, word: str) -> float:
        raise Refused(f"{self.name}: {word} is not JSON; write null for a number that is not known")

    def refused(self, path: Path, what: str) -> Refused:
        """The refusal of what stands at `path`."""
        where = f"{spelled(path)} " if path else ""
        line = self.line(path)
        return Refused(f"{self.name}: {where}{what}{f' (line {line})' if line else ''}")

    def line(self, path: Path) -> int | None:
        """Line, from 1, of what stands at `path`, or of the nearest thing around it that exists."""
        try:
            return self._text.count("\n", 0, self._find(path)) + 1
        except (ValueError, StopIteration, RecursionError):
            return None

    def as_model(self, wanted: type[T], value: Any = None, *, at: Path = ()) -> T:
        """The whole file, or the `value` that stands `at` a path in it, as a model. Raises `Refused`."""
        try:
            return TypeAdapter(wanted).validate_python(self.value if value is None else value)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            first = errors[0]
            more = f"; and {len(errors) - 1} more" if len(errors) > 1 else ""
            raise self.refused((*at, *first["loc"]), told(first) + more) from None

    def _skip(self, at: int) -> int:
        """The first place from `at` on that is not white space."""
        space = _SPACE.match(self._text, at)
        return space.end() if space else at

    def _find(self, path: Path) -> int:
        """Where in the text the value at `path` begins."""
        at = self._skip(0)
        for step in path:
            found = self._step(at, step)
            if found is None:
                return at
            at = found
        return at

    def _step(self, at: int, step: str | int) -> int | None:
        """Where the member `step` of the object or array at `at` begins; None where there is none."""
        text = self._text
        if text[at : at + 1] not in (("{",) if isinstance(step, str) else ("[",)):
            return None
        read = json.JSONDecoder().raw_decode
        at, index, found = self._skip(at + 1), 0, None
        while text[at] not in "]}":
            key: str | int = index
            if isinstance(step, str):
                key, at = read(text, at)
                at = self._skip(self._skip(at) + 1)
            if key == step:
                found = at  # the last of equal keys counts, as for `json.loads`
                if isinstance(step, int):
                    break
            at = self._skip(read(text, at)[1])
            if text[at] == ",":
                at = self._skip(at + 1)
            index += 1
        return found


def spelled(path: Path) -> str:
    """`("sensor", 0, "name")` as `sensor[0].name`."""
    out = ""
    for step in path:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else step
    return out


_MUST: dict[str, str] = {
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be one of {expected}",
    "too_short": "must have {min_length} or more items",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have {max_length} characters or fewer",
}


def told(error: Any) -> str:
    """One of pydantic's errors in the words of this project."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not known here"
    if kind == "value_error":
        return str(context["error"])
    must = _MUST.get(kind)
    return f"{must.format(**context) if must else error['msg']}, got {shown(error['input'])}"


def shown(value: Any) -> str:
    """A value as it stands in the file, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
