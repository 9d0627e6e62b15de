"""Ice holds cups and vanes: a flat line while it is cold. Pure: what is cold is said here, what is flat by flat_line.

The temperature counts that the device measured in the same row.
"""

from dataclasses import dataclass

from schemas.columnar import Doubles
from streams.quality.found import Bools, Columns


@dataclass(frozen=True, slots=True)
class Cold:
    """Temperature limits of k channels; `temperature` are the columns of their thermometers."""

    columns: Columns
    temperature: Columns
    below: Doubles  # (k,)


def cold(values: Doubles, test: Cold) -> Bools:
    """Where it is cold for the k channels: (n, k); strict, and never where the temperature is missing."""
    is_cold: Bools = test.temperature.of(values) < test.below
    return is_cold
