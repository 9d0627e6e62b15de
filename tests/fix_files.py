"""Logger files of a test's own making: written under a name that says nothing, looked at, and read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from producers.files.inspection import Inspection, inspect
from producers.files.logger_file import Kind, LoggerFile, Stamping

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes bytes under a name that says nothing and gives the path."""

    def write(data: bytes, name: str = "file.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def values(file: LoggerFile) -> dict[str, list[float | None]]:
    """Columns of a file whose header stays; None = missing."""
    chunks = list(file.chunks(lambda column: column.name))
    rows = np.concatenate([chunk.values for chunk in chunks])
    return {
        name: [None if np.isnan(v) else v for v in rows[:, at].tolist()] for at, name in enumerate(chunks[0].columns)
    }


def kinds(file: LoggerFile, kind: Kind) -> list[str]:
    return [column.name for column in file.columns if column.kind is kind]


def looked(path: Path, **told: object) -> Inspection:
    return inspect(path, told=Stamping(**told))  # type: ignore[arg-type]  # fields of a Stamping
