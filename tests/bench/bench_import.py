"""Importing: a mast-year from the file to the database, and a LoggerNet folder of 1,000 files, imported and watched.

Beside them the same files read by `pandas.read_csv`, which sends nothing, in the same run.
"""

import json
import os
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
from bench_stack import Figure, figure, own_stack, service

from infra.postgres import server
from producers.stations.devices import publish
from producers.stations.files import read_file
from schemas.iea.convert import Answers

YEAR_ROWS = 52_560
FILES = int(os.environ.get("BENCH_IMPORT_FILES", "1000"))
FILE_ROWS = 144  # a day of ten-minute rows


def demo_lines() -> tuple[str, list[str]]:
    """Header and the rest of each row (behind its stamp) of the demo mast's month."""
    lines = (files("infra.demo") / "demo_mast.dat").read_text().splitlines()
    return "\r\n".join(lines[:4]) + "\r\n", [line.partition(",")[2] for line in lines[4:]]


def text(rests: list[str], first: int, count: int) -> str:
    stamps = np.datetime64("2017-02-01T00:00:00", "s") + np.arange(first, first + count) * np.timedelta64(600, "s")
    texts = (str(stamp).replace("T", " ") for stamp in stamps)
    return "".join(f'"{at}",{rests[(first + n) % len(rests)]}\r\n' for n, at in enumerate(texts))


def telltale(env: dict[str, str], *words: str) -> tuple[float, str]:
    """How long a command takes, and what it says."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "infra.command", *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - began, done.stdout


def by_pandas(paths: list[Path]) -> float:
    began = time.perf_counter()
    for path in paths:
        pd.read_csv(path, skiprows=[0, 2, 3], parse_dates=[0])
    return time.perf_counter() - began


def count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM readings").fetchone()
        return 0 if row is None else int(row[0])


def measured(folder: Path, env: dict[str, str], dsn: str) -> list[Figure]:
    header, rests = demo_lines()
    year = folder / "year.dat"
    year.write_text(header + text(rests, 0, YEAR_ROWS))
    base = by_pandas([year])
    sent, said = telltale(env, "import", str(year), "--wait", "0", "--json")
    readings = json.loads(said.splitlines()[-1])["readings"]
    began = time.perf_counter()
    while count(dsn) < readings:
        time.sleep(0.1)
    took = sent + time.perf_counter() - began
    again, _ = telltale(env, "import", str(year))
    many = folder / "loggernet"
    many.mkdir()
    paths = []
    for number in range(FILES):
        paths.append(many / f"ten_{number:04}.dat")
        paths[-1].write_text(header + text(rests, YEAR_ROWS + number * FILE_ROWS, FILE_ROWS))
    base_many = by_pandas(paths)
    took_many, said = telltale(env, "import", str(many), "--wait", "180", "--json")
    if {json.loads(line)["state"] for line in said.splitlines()} != {"stored"}:
        raise RuntimeError("not all stored")
    watched = folder / "watched"
    watched.mkdir()
    for number in range(FILES):
        first = YEAR_ROWS + (FILES + number) * FILE_ROWS
        (watched / f"ten_{number:04}.dat").write_text(header + text(rests, first, FILE_ROWS))
    before = count(dsn)
    took_watch, _ = telltale(env, "import", "watch", str(watched), "--once", "--every", "1")
    if count(dsn) - before != FILES * FILE_ROWS * 29:
        raise RuntimeError(f"{count(dsn) - before} readings of the watched folder")
    return [
        figure("import", f"mast-year ({YEAR_ROWS:,} rows of 29): pandas.read_csv alone", base, "s"),
        figure("import", "mast-year: file to broker", sent, "s"),
        figure("import", "mast-year: file to database", took, "s"),
        figure("import", "mast-year: file to database, its readings", YEAR_ROWS * 29 / took, "readings/s"),
        figure("import", "mast-year: the same file again", again, "s"),
        figure("import", f"{FILES:,} files of a day: pandas.read_csv alone", FILES / base_many, "files/s"),
        figure("import", f"{FILES:,} files: to the database", FILES / took_many, "files/s", beside=FILES / base_many),
        figure(
            "import",
            f"{FILES:,} files: to the database, their readings",
            FILES * FILE_ROWS * 29 / took_many,
            "readings/s",
        ),
        figure("import", f"{FILES:,} files: watched, to the database", FILES / took_watch, "files/s"),
    ]


def run() -> list[Figure]:
    """On a stack of this run."""
    with own_stack() as (folder, kafka, dsn):
        server.ensure_database(dsn, "imports")
        own = dsn.rpartition("/")[0] + "/imports"
        answers = Answers(configured_at=pd.Timestamp.now("UTC").to_pydatetime(), configured_by="bench")
        publish(kafka, read_file(Path(str(files("infra.demo") / "demo_mast.json")), answers=answers).devices)
        env = {"TELLTALE_KAFKA": kafka, "TELLTALE_DATABASE": own, "TELLTALE_DIR": str(folder / "stack")}
        with service(folder, "streams", "run", **env), service(folder, "sink", "run", **env):
            return measured(folder, env, own)
