"""A file that cannot be taken, and the line that shows it."""

from schemas.errors import Refused


class RefusedAt(Refused):
    """`NAME, line N: what was wrong`."""

    def __init__(self, name: str, line: int, what: str) -> None:
        super().__init__(f"{name}, line {line}: {what}")
        self.line = line
        self.what = what
