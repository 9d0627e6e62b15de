"""`telltale db grant-reader`: a role for notebooks sees the views and nothing else, and changes nothing."""

import json

import psycopg
import pytest
from click.testing import CliRunner, Result
from fix_exports import STEPS
from fix_sink import Database

from schemas.errors import Refused
from sinks.timescale import readers
from sinks.timescale.cli import db

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
