"""`telltale demo` as a person runs it; and the mast's values by a formula that this test computes for itself."""

import csv
import json
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fix_edge import SAMPLES

from producers.files.recognise import recognise

pytestmark = pytest.mark.integration

SAMPLE = SAMPLES / "windographer_export_2016-12-20_2017-01-20.txt"
STATION = "demo-mast"
DEMO = Path(__file__).parents[2] / "infra" / "demo"
REPROGRAMMED = datetime(2017, 1, 4, 18, tzinfo=UTC)

# From the certificates and the logger programs as demo_mast.json states them:
# channel: (logger slope, logger offset, slope, offset), before the new program of 2017-01-04 18:00 and from then on.
SCALED = {
    "Spd80mS": ((0.8445, 0.321, 0.84449, 0.3209),) * 2,
    "Spd60mN": ((0.4605, 0.2374, 0.46049, 0.23739),) * 2,
    "Spd40mS": ((0.0459, 0.2554, 0.04591, 0.25539), None),
}


def telltale(folder: Path, *words: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TELLTALE_") or k == "TELLTALE_CACHE"}
    ran = subprocess.run(
        [sys.executable, "-m", "infra.command", *words],
        cwd=folder,
        env={**env, "TELLTALE_DIR": str(folder / ".telltale-demo")},
        stdout=subprocess.PIPE,
        stderr=None,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, words
    return ran.stdout


@pytest.mark.timeout(420)
def test_demo_stores_a_month_of_a_real_mast_and_its_values_are_right(tmp_path: Path) -> None:
    try:
        table = json.loads(telltale(tmp_path, "demo", "--keep", "--json"))
        assert table["accepted"] == table["stored"] == 4464 * 29
        assert table["twice"] == table["rejected"] == 0
        assert table["alarms_raised"] >= table["alarms_cleared"] >= 1  # on a busy machine it falls silent more often
        for channel, numbers in SCALED.items():
            assert_values(tmp_path, channel, numbers)
        assert_equal_to_logged(tmp_path, "Spd80mN")
        assert_equal_to_logged(tmp_path, "PrcpTot")
        assert_exports_agree(tmp_path)
    finally:
        telltale(tmp_path, "down", "--remove")
    assert not (tmp_path / ".telltale-demo").exists()


def stored(folder: Path, channel: str) -> list[dict[str, object]]:
    shown = telltale(folder, "readings", "show", "--sensor", f"demo-mast/{channel}", "--json")
    return [json.loads(line) for line in shown.splitlines()]


def logged(channel: str) -> list[float]:
    with (DEMO / "demo_mast.dat").open(newline="") as file:
        rows = list(csv.reader(file))
    return [float(row[rows[1].index(channel)]) for row in rows[4:]]


def assert_values(folder: Path, channel: str, numbers: tuple[tuple[float, ...] | None, ...]) -> None:
    rows = stored(folder, channel)
    assert [row["logged"] for row in rows] == logged(channel)
    for row in rows:
        valid = numbers[datetime.fromisoformat(str(row["time"])) >= REPROGRAMMED]
        y = row["logged"]
        if valid is not None:
            y = scaled(y, valid)
        assert row["value"] == y, row


EXACT: Any = {"float_precision": "round_trip"}
EVERY_FLAG = ("--quality", "good,not_evaluated,suspect,fail")


def assert_exports_agree(folder: Path) -> None:
    """The mast as files: logged as the logger wrote it, calibrated by our own formula here, read by three readers."""
    common = ("--station", STATION, "--labels", "bare", *EVERY_FLAG)
    for words in (("csv", "--logged", "--out", "logged.csv"), ("csv",), ("windographer",)):
        telltale(folder, "export", *words, *common)
    kept = pd.read_csv(folder / "logged.csv", comment="#", index_col="time", **EXACT)
    values = pd.read_csv(folder / f"{STATION}.csv", comment="#", index_col="time", **EXACT)
    text = folder / f"{STATION}.txt"
    for channel in kept:
        assert kept[channel].tolist() == logged(channel), channel
    for channel, numbers in SCALED.items():
        calibrated = [
            value if (n := numbers[datetime.fromisoformat(f"{at}Z") >= REPROGRAMMED]) is None else scaled(value, n)
            for at, value in kept[channel].items()
        ]
        assert values[channel].tolist() == calibrated
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of brightwind and what it imports
        import brightwind

        independent = brightwind.load_windographer_txt(str(text), flag_text="no such text")
    ours = read_by_producers(text)
    assert [str(at) for at in independent.index] == list(values.index)
    for channel in values:
        np.testing.assert_allclose(independent[channel], values[channel], rtol=1e-15)  # pandas' parser, not exact
        np.testing.assert_array_equal(ours[channel], values[channel])
    if SAMPLE.exists():  # Windographer's own export of the same month: as logged, low quality left out
        theirs = pd.read_csv(SAMPLE, sep="\t", skiprows=12, index_col=0, **EXACT)
        head = [SAMPLE.read_bytes().split(b"\r\n")[:12], text.read_bytes().split(b"\r\n")[:12]]
        assert [line.partition(b"=")[0] for line in head[0][1:7]] == [line.partition(b"=")[0] for line in head[1][1:7]]
        assert head[0][9:] == head[1][9:]
        assert list(theirs.index) == list(kept.index)
        for channel in theirs:
            there = theirs[channel].notna()
            assert theirs[channel][there].tolist() == kept[channel][there].tolist(), channel


def scaled(y: float, numbers: tuple[float, ...]) -> float:
    logger_slope, logger_offset, slope, offset = numbers
    return slope * ((y - logger_offset) / logger_slope) + offset


def read_by_producers(path: Path) -> dict[str, "np.ndarray[Any, Any]"]:
    """By our own reader of Windographer text."""
    file = recognise(path)
    assert (file.format, file.stamping.stamp) == ("windographer", "begin")
    chunks = list(file.chunks(lambda column: column.name))
    return {
        name: np.concatenate([chunk.values[:, place] for chunk in chunks])
        for place, name in enumerate(chunks[0].columns)
    }


def assert_equal_to_logged(folder: Path, channel: str) -> None:
    rows = stored(folder, channel)
    assert len(rows) == 4464
    assert all(row["value"] == row["logged"] for row in rows)
