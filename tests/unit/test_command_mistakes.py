"""What no command foresees is told in one line: a package that is not installed, a file that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from infra.database import told_in_one_line
from schemas.errors import Refused


@pytest.mark.parametrize(
    ("words", "package"), [(["users", "list"], "psycopg"), (["sink", "run"], "psycopg"), (["streams", "run"], "faust")]
)
def test_what_is_not_installed_is_named(words: list[str], package: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text(f'raise ModuleNotFoundError("No module named {package}", name={package!r})')
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "TELLTALE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "infra.command", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"needs the package {package}, which is not installed here" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["tls", "init", "--name", "here"], ["device", "list", "--kafka", "no address:1"]])
def test_a_folder_that_is_a_file_is_named(words: list[str], tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    env = {**os.environ, "TELLTALE_DIR": str(place)}
    done = subprocess.run(
        [sys.executable, "-m", "infra.command", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_value_that_the_database_cannot_hold_is_told_in_one_line() -> None:
    with pytest.raises(Refused, match="database: bigint out of range"), told_in_one_line():
        raise psycopg.errors.NumericValueOutOfRange("bigint out of range")
