"""`telltale db grant-reader`: a role for notebooks sees the views and nothing else, and changes nothing."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from fix_exports import STEPS
from fix_sink import Database

from schemas.errors import Refused
from sinks.timescale import readers
from sinks.timescale.db_cli import db

pytestmark = pytest.mark.integration

NAME = "test_analyst"
EVERY = """SELECT c.oid::regclass::text, relname FROM pg_class c
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"""
DENIED = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.ObjectNotInPrerequisiteState,  # a view that no INSERT fits
)


@pytest.fixture
def role(hill: Database):
    """A name that is free, and gone afterwards: roles are the whole server's."""
    yield NAME
    with psycopg.connect(hill.dsn, autocommit=True) as connection:
        if connection.execute(readers.ROLE, (NAME,)).fetchone():
            readers.revoke(connection, NAME)


def telltale(hill: Database, *words: str) -> Result:
    return CliRunner().invoke(db, [*words, "--database", hill.dsn])


def test_reader_reads_the_views_and_changes_nothing(hill: Database, role: str) -> None:
    granted = telltale(hill, "grant-reader", role, "--connections", "2", "--statement-timeout", "7", "--json")
    assert granted.exit_code == 0, granted.exception
    made = json.loads(granted.stdout)
    with psycopg.connect(made["dsn"], autocommit=True) as reader:
        for name in readers.READABLE:
            reader.execute(f"SELECT * FROM {name} LIMIT 1")
        assert reader.execute("SELECT count(*) FROM readings_good WHERE sensor_id = 2").fetchone() == (STEPS,)
        assert reader.execute("SELECT count FROM statistics_daily WHERE sensor_id = 2 LIMIT 1").fetchone() == (144,)
        assert reader.execute("SHOW statement_timeout").fetchone() == ("7s",)
        reader.execute("SET default_transaction_read_only = off")  # a rail, not a wall: the wall follows
        every = Database(hill.dsn, migrate=False).rows(EVERY)
        hidden = [name for name, plain in every if plain not in readers.READABLE]
        assert {"readings", "users", "tokens", "sink_offsets", "exports"} <= set(hidden)
        for statement in (
            *(f"SELECT FROM {name} LIMIT 1" for name in hidden),
            *(f"DELETE FROM {name}" for name, _ in every),
            "INSERT INTO stations VALUES ('x', 'x')",
            "UPDATE readings_good SET value = 0",
            "SELECT flag(1, tstzrange('2020-01-01', '2020-01-02'), 'icing')",
            "CREATE TABLE mine (a int)",
            "CREATE TEMPORARY TABLE mine (a int)",
            "SELECT pg_read_file('PG_VERSION')",
            "COPY stations TO PROGRAM 'true'",
            "ALTER ROLE test_analyst CONNECTION LIMIT 100",
            "SET ROLE postgres",
        ):
            with pytest.raises(DENIED):
                reader.execute(statement.encode())
        with psycopg.connect(made["dsn"]), pytest.raises(psycopg.OperationalError, match="too many connections"):
            psycopg.connect(made["dsn"])


def test_password_is_shown_once_and_a_new_one_voids_it(hill: Database, role: str) -> None:
    with psycopg.connect(hill.dsn, autocommit=True) as owner:
        first = readers.grant(owner, role, statement_timeout_s=60, connections=4)
        assert readers.grant(owner, role, statement_timeout_s=5, connections=1).password is None
        assert readers.listed(owner) == [(role, 1, "5s", 0)]
        second = readers.grant(owner, role, statement_timeout_s=60, connections=4, new_password=True)
        rest = hill.dsn.rpartition("@")[2]
        dsn = lambda password: f"postgresql://{role}:{password}@{rest}"  # noqa: E731
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(dsn(first.password))
        with psycopg.connect(dsn(second.password), autocommit=True) as reader:
            readers.revoke(owner, role)
            with pytest.raises(psycopg.OperationalError):
                reader.execute("SELECT 1")
        assert readers.listed(owner) == []


def test_roles_that_are_not_readers_are_left_alone(hill: Database) -> None:
    owner = hill.one("SELECT current_user")
    for words, said in (
        (("grant-reader", owner), "was not made by grant-reader"),
        (("revoke-reader", owner), "was not made by grant-reader"),
        (("revoke-reader", "nobody"), "there is none; readers are none"),
        (("grant-reader", "A b"), "expected a name of a-z"),
    ):
        refused = telltale(hill, *words).exception
        assert isinstance(refused, Refused)
        assert said in str(refused)


BOARDS = sorted((Path(__file__).parents[2] / "infra" / "grafana" / "dashboards").glob("*.json"))


def grafana_queries() -> Iterator[tuple[str, str]]:
    for path in BOARDS:
        board = json.loads(path.read_text())
        for variable in board["templating"]["list"]:
            yield f"{path.stem}: ${variable['name']}", variable["query"]
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                if "rawSql" in target:
                    yield f"{path.stem}: {panel['title']}", target["rawSql"]


def as_grafana_sends_it(query: str) -> str:
    """Its macros and our variables filled in. A variable of several values comes as quoted words."""
    begin, end = "'2024-05-01T00:00:00Z'", "'2024-05-08T00:00:00Z'"
    query = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 BETWEEN {begin} AND {end}", query)
    query = query.replace("$__timeFrom()", begin).replace("$__timeTo()", end)
    query = query.replace("($station)", "('hill', 'other')").replace("($sensor)", "('mast/Spd80', 'mast/Dir78')")
    return query.replace("$station", "hill").replace("$quantity", "wind_speed")


def test_grafana_asks_as_a_reader_what_there_is(hill: Database, role: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("of-the-compose-file\n")
    words = ("grant-reader", role, "--connections", "8", "--password-file", str(secret), "--json")
    granted = telltale(hill, *words)
    assert granted.exit_code == 0, granted.output
    assert "of-the-compose-file" not in granted.output
    assert telltale(hill, *words).exit_code == 0  # as at each start of the compose file
    with psycopg.connect(hill.dsn, user=role, password="of-the-compose-file", autocommit=True) as reader:
        queries = dict(grafana_queries())
        assert len(queries) > 20
        for where, query in queries.items():
            sent = as_grafana_sends_it(query)
            assert "$" not in sent, where
            try:
                reader.execute(f"EXPLAIN {sent}".encode())
                columns = [each.name for each in reader.execute(sent.encode()).description or ()]
            except psycopg.Error as error:
                pytest.fail(f"{where}: {error}")
            assert "AS metric" not in sent or columns[:2] == ["time", "metric"], where


def test_an_empty_password_is_refused(hill: Database, role: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    done = telltale(hill, "grant-reader", role, "--password-file", str(tmp_path / "password"))
    assert isinstance(done.exception, Refused)
