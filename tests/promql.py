"""Enough of PromQL to say which metrics and labels an expression names, and to refuse what Prometheus would not read.

The expressions of this project were read by Prometheus' own parser as well; it comes in Go only.
"""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r"""\s*(?:(?P<string>"[^"\\]*"|'[^'\\]*')|(?P<duration>\d+(?:ms|[smhdwy])|\$__rate_interval|\$__interval)"""
    r"""|(?P<number>\d+(?:\.\d+)?)|(?P<name>[a-zA-Z_:][\w:]*)|(?P<op>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){}\[\],]))"""
)
FUNCTIONS = {
    "rate": "range", "increase": "range", "changes": "range", "predict_linear": "range", "absent": "instant",
    "histogram_quantile": "instant", "time": "nothing",
}  # fmt: skip
AGGREGATES = {"sum", "max", "min", "avg", "count"}
BINARY = {"+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"}


class Named(NamedTuple):
    """A metric and the labels that are matched or grouped by beside it."""

    metrics: frozenset[str]
    labels: frozenset[str]


def read(text: str) -> Named:
    """Raises `ValueError`."""
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"{text}: {text[at:]!r} is no PromQL")
        tokens.append((found.lastgroup or "", found[found.lastgroup or 0]))
        at = found.end()
    reader = _Reader(text, tokens)
    reader.expression()
    reader.expect_end()
    return Named(frozenset(reader.metrics), frozenset(reader.labels))


class _Reader:
    def __init__(self, text: str, tokens: list[tuple[str, str]]) -> None:
        self._text, self._tokens, self._at = text, tokens, 0
        self.metrics: set[str] = set()
        self.labels: set[str] = set()

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, *wanted: str) -> tuple[str, str]:
        kind, value = self._peek()
        if wanted and value not in wanted and kind not in wanted:
            raise ValueError(f"{self._text}: expected {' or '.join(wanted)}, got {value or 'its end'!r}")
        self._at += 1
        return kind, value

    def expect_end(self) -> None:
        self._take("end")

    def expression(self) -> None:
        self._operand()
        while self._peek()[1] in BINARY:
            self._take()
            if self._peek()[1] in ("on", "ignoring"):
                self._take()
                self._label_list()
                if self._peek()[1] in ("group_left", "group_right"):
                    self._take()
                    self._label_list()
            self._operand()

    def _operand(self) -> None:
        kind, value = self._take("number", "name", "(")
        if value == "(":
            self.expression()
            self._take(")")
        elif kind == "name":
            self._named(value)

    def _named(self, name: str) -> None:
        if name in AGGREGATES:
            if self._peek()[1] in ("by", "without"):
                self._take()
                self._label_list()
            self._take("(")
            self.expression()
            self._take(")")
        elif self._peek()[1] == "(":
            if name not in FUNCTIONS:
                raise ValueError(f"{self._text}: {name} is no function that is known here")
            self._call(name)
        else:
            self._selector(name)

    def _call(self, name: str) -> None:
        self._take("(")
        begins = self._at
        while self._peek()[1] != ")":
            self.expression()
            if self._peek()[1] != ")":
                self._take(",")
        is_range = "[" in (value for _, value in self._tokens[begins : self._at])
        if is_range and FUNCTIONS[name] == "nothing":
            raise ValueError(f"{self._text}: {name}() takes nothing")
        if FUNCTIONS[name] == "range" and not is_range:
            raise ValueError(f"{self._text}: {name}() wants a range such as [5m]")
        self._take(")")

    def _selector(self, name: str) -> None:
        self.metrics.add(name)
        if self._peek()[1] == "{":
            self._take()
            while self._peek()[1] != "}":
                self.labels.add(self._take("name")[1])
                self._take("=", "!=", "=~", "!~")
                self._take("string")
                if self._peek()[1] != "}":
                    self._take(",")
            self._take("}")
        if self._peek()[1] == "[":
            self._take()
            self._take("duration")
            self._take("]")

    def _label_list(self) -> None:
        self._take("(")
        while self._peek()[1] != ")":
            self.labels.add(self._take("name")[1])
            if self._peek()[1] != ")":
                self._take(",")
        self._take(")")
