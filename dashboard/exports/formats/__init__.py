"""One module a format: a choice and its blocks in, files out."""

from collections.abc import Callable, Iterator
from importlib.metadata import version

from dashboard.exports.choice import Choice
from dashboard.exports.query import Block, Tally

Source = Callable[[Choice, Tally], Iterator[Block]]
"""The blocks of a choice or of a part of its columns; may be asked several times."""

PROGRAM = f"Telltale {version('telltale')}"
