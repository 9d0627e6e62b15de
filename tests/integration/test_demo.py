"""`telltale demo` as a person runs it; and the mast's values by a formula that this test computes for itself."""

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

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
        assert table["alarms_raised"] >= table["alarms_cleared"] == 1
        for channel, numbers in SCALED.items():
            assert_values(tmp_path, channel, numbers)
        assert_equal_to_logged(tmp_path, "Spd80mN")
        assert_equal_to_logged(tmp_path, "PrcpTot")
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
            logger_slope, logger_offset, slope, offset = valid
            y = slope * ((y - logger_offset) / logger_slope) + offset
        assert row["value"] == y, row


def assert_equal_to_logged(folder: Path, channel: str) -> None:
    rows = stored(folder, channel)
    assert len(rows) == 4464
    assert all(row["value"] == row["logged"] for row in rows)
