"""A command whose package an installation lacks, such as an edge's, says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


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
