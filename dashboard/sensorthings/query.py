"""Query options of SensorThings (OData 4 URL conventions), read into SQL with parameters. Pure: text in, SQL out.

A filter is: comparisons (eq, ne, gt, ge, lt, le) of properties and literals, `and`, `or`, `not`, parentheses, and the
functions startswith, endswith, contains, substringof. Everything else is told as not there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dashboard.web.problems import Problem

TOP, TOP_MAX = 100, 1_000
SKIP_MAX = 10_000_000
TEXT_MAX = 4_000
DEPTH_MAX = 20
"""Of parentheses: far beyond what a person or program writes."""

OPTIONS = ("$filter", "$orderby", "$top", "$skip", "$count", "$select", "$expand")
COMPARISONS = {"eq": "=", "ne": "<>", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
FUNCTIONS = {
    "startswith": "starts_with({0}, {1})",
    "endswith": "right({0}, length({1})) = {1}",
    "contains": "position({1} in {0}) > 0",
    "substringof": "position({0} in {1}) > 0",
}
TOKEN = re.compile(
    r"\s*(?:(?P<time>\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d))|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)"
    r"|(?P<text>'(?:[^']|'')*')|(?P<word>[A-Za-z@_][A-Za-z0-9_.@]*(?:/[A-Za-z@_][A-Za-z0-9_.@]*)*)|(?P<sign>[(),]))"
)


def bad(detail: str) -> Problem:
    """The query cannot be understood."""
    return Problem(400, detail)


def not_there(detail: str) -> Problem:
    """It can be understood, and is left out here."""
    return Problem(501, f"{detail}; dashboard/api/README.md says what is left out")


@dataclass(frozen=True, slots=True)
class Property:
    """A property that can be filtered and sorted by: its SQL, and number, text or time."""

    sql: str
    kind: str


Properties = Mapping[str, Property]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One level of query options. `where` and `order` are SQL over the entity's rows."""

    where: str = "true"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    order: str = ""
    top: int = TOP
    skip: int = 0
    count: bool = False
    select: tuple[str, ...] = ()
    expand: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def parsed(options: Mapping[str, str], properties: Properties, *, prefix: str = "") -> Query:
    """Query options of one level. `prefix` keeps parameters of several levels apart. Raises `Problem` 400, 501."""
    for name, value in options.items():
        if name not in OPTIONS:
            if name.startswith("$"):
                raise not_there(f"{name} is not supported")
            raise bad(f"{name} is no query option; there are {', '.join(OPTIONS)}")
        if len(value) > TEXT_MAX or "\x00" in value:
            raise bad(f"{name} is longer than {TEXT_MAX} characters, or holds a zero")
    where, arguments = "true", {}
    if "$filter" in options:
        parser = _Filter(options["$filter"], properties, prefix)
        where, arguments = parser.whole(), parser.arguments
    return Query(
        where=where,
        arguments=arguments,
        order=_order(options.get("$orderby", ""), properties),
        top=_whole("$top", options.get("$top", str(TOP)), TOP_MAX),
        skip=_whole("$skip", options.get("$skip", "0"), SKIP_MAX),
        count=_flag(options.get("$count", "false")),
        select=tuple(each.strip() for each in options.get("$select", "").split(",") if each.strip()),
        expand=_expand(options.get("$expand", "")),
    )


def _whole(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 12:
        raise bad(f'{name}: expected a whole number, got "{text[:40]}"')
    if int(text) > most and name != "$top":
        raise bad(f"{name}: at most {most:,}")
    return min(int(text), most)  # a page may be smaller than was asked for


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise bad(f'$count: expected true or false, got "{text[:40]}"')
    return text == "true"


def _property(name: str, properties: Properties) -> Property:
    found = properties.get(name)
    if found is None:
        raise bad(f'"{name[:60]}" is no property here; there are {", ".join(sorted(properties))}')
    return found


def _order(text: str, properties: Properties) -> str:
    parts = []
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, _, way = each.partition(" ")
        way = way.strip().lower() or "asc"
        if way not in ("asc", "desc"):
            raise bad(f'$orderby: expected asc or desc, got "{way[:40]}"')
        found = _property(name, properties)
        nulls = "" if found.kind == "time" else " NULLS LAST"  # times are never null, and so their index can be used
        parts.append(f"{found.sql} {way}{nulls}")
    return ", ".join(parts)


def _expand(text: str) -> dict[str, dict[str, str]]:
    """Names of what is expanded, each with its own options in parentheses."""
    found: dict[str, dict[str, str]] = {}
    for part in _split(text, ","):
        name, paren, rest = part.partition("(")
        options: dict[str, str] = {}
        if paren:
            if not rest.endswith(")"):
                raise bad(f"$expand: a parenthesis is open in {part[:60]}")
            for option in _split(rest[:-1], ";"):
                key, sign, value = option.partition("=")
                if not sign:
                    raise bad(f"$expand: expected $option=value, got {option[:60]}")
                options[key.strip()] = value
        if "/" in name or "$expand" in options:
            raise not_there("$expand goes one level deep")
        found[name.strip()] = options
    return found


def _split(text: str, sign: str) -> list[str]:
    """Parts between signs that stand in no parentheses and no quotes."""
    parts, depth, quoted, begin = [], 0, False, 0
    for place, each in enumerate(text):
        if each == "'":
            quoted = not quoted
        elif not quoted and each in "()":
            depth += 1 if each == "(" else -1
        elif each == sign and depth == 0 and not quoted:
            parts.append(text[begin:place].strip())
            begin = place + 1
    return [part for part in (*parts, text[begin:].strip()) if part]


class _Filter:
    """A recursive descent: or, and, not, comparison."""

    def __init__(self, text: str, properties: Properties, prefix: str) -> None:
        self._properties, self._prefix = properties, prefix
        self.arguments: dict[str, Any] = {}
        self._tokens = self._read(text)
        self._place = 0

    @staticmethod
    def _read(text: str) -> list[tuple[str, str]]:
        tokens, place = [], 0
        while text[place:].strip():
            found = TOKEN.match(text, place)
            if found is None:
                raise bad(f"$filter: not understood from {text[place : place + 40]!r} on")
            kind = str(found.lastgroup)
            tokens.append((kind, found[kind]))
            place = found.end()
        return tokens

    def whole(self) -> str:
        made = self._or(0)
        if self._place < len(self._tokens):
            raise bad(f"$filter: not understood from {self._tokens[self._place][1][:40]!r} on")
        return made

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("end", "its end")

    def _take(self) -> tuple[str, str]:
        token = self._next()
        self._place += 1
        return token

    def _is(self, word: str) -> bool:
        if self._next()[1] == word and self._next()[0] in ("word", "sign"):
            self._place += 1
            return True
        return False

    def _must(self, sign: str) -> None:
        if not self._is(sign):
            raise bad(f"$filter: expected {sign!r} before {self._next()[1][:40]!r}")

    def _or(self, depth: int) -> str:
        if depth > DEPTH_MAX:
            raise bad(f"$filter: more than {DEPTH_MAX} levels")
        parts = [self._and(depth)]
        while self._is("or"):
            parts.append(self._and(depth))
        return "(" + " OR ".join(parts) + ")"

    def _and(self, depth: int) -> str:
        parts = [self._not(depth)]
        while self._is("and"):
            parts.append(self._not(depth))
        return "(" + " AND ".join(parts) + ")"

    def _not(self, depth: int) -> str:
        if depth > DEPTH_MAX:
            raise bad(f"$filter: more than {DEPTH_MAX} levels")
        if self._is("not"):
            return f"(NOT {self._not(depth + 1)})"
        if self._is("("):
            made = self._or(depth + 1)
            self._must(")")
            return made
        return self._comparison()

    def _comparison(self) -> str:
        kind, word = self._next()
        if kind == "word" and word in FUNCTIONS:
            return self._function()
        left, left_kind = self._operand()
        _, operator = self._take()
        if operator not in COMPARISONS:
            raise bad(f"$filter: expected one of {', '.join(COMPARISONS)}, got {operator[:40]!r}")
        right, right_kind = self._operand()
        if "null" in (left_kind, right_kind):
            if operator not in ("eq", "ne"):
                raise bad("$filter: null can be eq or ne, and nothing else")
            return f"({left} IS {'NOT ' if operator == 'eq' else ''}DISTINCT FROM {right})"
        if left_kind != right_kind:
            raise bad(f"$filter: a {left_kind} and a {right_kind} cannot be compared")
        return f"({left} {COMPARISONS[operator]} {right})"

    def _function(self) -> str:
        _, name = self._take()
        self._must("(")
        one, one_kind = self._operand()
        self._must(",")
        other, other_kind = self._operand()
        self._must(")")
        if (one_kind, other_kind) != ("text", "text"):
            raise bad(f"$filter: {name} takes two texts")
        if self._is("eq"):
            _, word = self._take()
            if word not in ("true", "false"):
                raise bad(f"$filter: {name} is true or false, got {word[:40]!r}")
            return f"(({FUNCTIONS[name].format(one, other)}) = {word})"
        return f"({FUNCTIONS[name].format(one, other)})"

    def _operand(self) -> tuple[str, str]:
        """SQL and its kind."""
        kind, word = self._take()
        if kind == "number":
            return self._argument(float(word)) + "::float8", "number"
        if kind == "text":
            return self._argument(word[1:-1].replace("''", "'")) + "::text", "text"
        if kind == "time":
            return self._argument(_time(word)) + "::timestamptz", "time"
        if kind == "word" and word == "null":
            return "NULL", "null"
        if kind == "word":
            found = _property(word, self._properties)
            return found.sql, found.kind
        raise bad(f"$filter: expected a property or a literal, got {word[:40]!r}")

    def _argument(self, value: Any) -> str:
        name = f"{self._prefix}p{len(self.arguments)}"
        self.arguments[name] = value
        return f"%({name})s"


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise bad(f"{text[:40]} is no time") from None
    if not 1900 <= time.year <= 2200:
        raise bad(f"{text[:40]}: expected a time between 1900 and 2200")
    return time
