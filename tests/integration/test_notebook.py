"""The page "From a notebook" is run, block after block, against a real service, and gives what the database holds."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import psycopg
import pytest
from fix_web import CHANNELS, ROWS, Served

from dashboard.exports.making import export
from dashboard.exports.request import ExportRequest
from sinks.timescale import readers

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "dashboard" / "notebook.md"
NAME = "test_notebook"
GOOD = "SELECT count(*) FROM readings_good r JOIN sensors s USING (sensor_id) WHERE device_id = 'mast-7' AND {}"


@pytest.fixture
def notebook(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What a reader of the page has: a role, a token, an exported file."""
    with psycopg.connect(served.dsn, autocommit=True) as owner:
        made = readers.grant(owner, NAME, statement_timeout_s=60, connections=4)
        where = served.dsn.rpartition("@")[2]
        monkeypatch.setenv("TELLTALE_READER", f"postgresql://{NAME}:{made.password}@{where}")
        monkeypatch.setenv("TELLTALE_URL", served.url)
        monkeypatch.setenv("TELLTALE_TOKEN", served.token())
        monkeypatch.chdir(tmp_path)
        export(owner, ExportRequest(format="parquet", device="mast-7", zone="UTC"), tmp_path / "hill.parquet")
        yield
        readers.revoke(owner, NAME)


def test_page_gives_what_the_database_holds(served: Served, notebook: None) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the libraries among themselves
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    names["api"].close()
    one = lambda where: served.sql(GOOD.format(where))[0][0]  # noqa: E731
    assert names["hourly"].height == 31 * 24
    assert names["hourly"]["count"].sum() == one("channel = 'Spd80' AND time < '2024-02-01Z'")
    assert set(names["recovery"]["channel"]) == set(CHANNELS)
    assert names["week"].columns == ["time", *CHANNELS]
    assert names["week"].height == 7 * 144 - 11  # each hundredth has failed, each thousandth is missing
    assert names["readings"].num_rows == one("channel = 'Spd80'")
    assert names["unit"] == "m/s"
    assert names["wide"].shape == (one("channel = 'Spd80'"), 3)
    assert (
        names["wide"]["mast-7/Spd80"].sum()
        == served.sql("SELECT sum(value) FROM readings_good WHERE sensor_id = 1")[0][0]
    )
    assert names["daily"].height == 3 * 62
    assert names["year"].num_rows == ROWS
    assert names["units"] == {"Spd80": "m/s", "Dir78": "deg", "Tmp5": "deg_C"}


def test_the_commands_on_the_page_are_there() -> None:
    for words in re.findall(r"^telltale ((?:[a-z-]+ )+)", PAGE.read_text(), re.MULTILINE):
        line = [sys.executable, "-m", "infra.command", *words.split()[:2], "--help"]
        assert subprocess.run(line, capture_output=True, check=False).returncode == 0, words
