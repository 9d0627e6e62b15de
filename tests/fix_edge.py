"""Small logger files, rows for the spool, and readers of the edge's topics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producers.spool import Rows

SAMPLES = Path("/work/shared/samples")


def toa5_text(rows: list[str], *, names: str = "TIMESTAMP,RECORD,Spd80mN,Spd80mS,T2m,Site") -> str:
    """A TOA5 table with these rows; units and statistics as many as names."""
    width = names.count(",") + 1
    units = ",".join(["TS", "RN", *["m/s"] * (width - 2)])
    statistics = ",".join(["", "", *["Avg"] * (width - 2)])
    head = ["TOA5,mast,CR1000,E7000,CR1000.Std.22,CPU:mast.CR1,12345,ten", names, units, statistics]
    return "\r\n".join([*head, *rows, ""])


def mast_rows(count: int, *, start: str = "2016-12-20T00:00") -> list[str]:
    """Ten-minute rows of plausible numbers."""
    times = np.datetime64(start, "s") + np.arange(count) * np.timedelta64(600, "s")
    stamps = [str(time).replace("T", " ") for time in times]
    return [f"{at},{n},{2 + n % 90 / 10},{3 + n % 70 / 10},{n % 30 - 5},mast" for n, at in enumerate(stamps)]


@pytest.fixture
def write_toa5(tmp_path: Path) -> Callable[..., Path]:
    """Writes a TOA5 file of `rows` and gives its path."""

    def write(rows: list[str], *, name: str = "mast.dat", encoding: str = "utf-8", **about: Any) -> Path:
        path = tmp_path / name
        path.write_bytes(toa5_text(rows, **about).encode(encoding))
        return path

    return write


def some_rows(count: int, *, device: str = "mast-7", channels: tuple[str, ...] = ("a", "b"), first: int = 0) -> Rows:
    """`count` rows whose values tell which they are."""
    times = np.arange(first, first + count, dtype=np.int64) * 1_000_000
    values = np.arange(first, first + count)[:, None] + np.arange(len(channels)) / 10
    return Rows(device, times, channels, values)


def accept_for_ever(folder: str, address: str, said: str) -> None:
    """For a process that is going to be killed: one reading after another, each told in a file once it is accepted."""
    from producers import Edge, EdgeSettings

    settings = EdgeSettings(device_id="mast-7", spool=Path(folder), retry_first_s=0.1, retry_s_max=0.5, linger_s=0.01)
    with Edge(settings, address=address) as edge, Path(said).open("a", buffering=1) as file:
        first = edge.counts().accepted // 2
        for number in range(first, first + 1_000_000):
            edge.accept_rows([some_rows(1, first=number)])
            file.write(f"{number}\n")
