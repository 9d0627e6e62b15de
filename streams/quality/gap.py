"""QARTOD's time gap test. Pure: the row behind a gap is flagged; the first row is as the second. Strict."""

from dataclasses import dataclass

from schemas.columnar import Doubles
from streams.quality.found import Bools, Columns


@dataclass(frozen=True, slots=True)
class Gaps:
    """Limits of k channels in seconds."""

    columns: Columns
    suspect: Doubles  # (k,)
    fail: Doubles
    shortest: float


def gaps(steps_s: Doubles, test: Gaps) -> tuple[Bools | None, Bools | None]:
    """Masks (n, k) of rows with `steps_s` (n,) before each."""
    if not len(steps_s) or steps_s.max() <= test.shortest:
        return None, None
    return steps_s[:, None] > test.suspect, steps_s[:, None] > test.fail
