"""The fault book's pipeline. One serves a module's scenarios one after the other; each begins healthy, whatever the one
before did.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from book_pipeline import PARTITIONS, GivenDatabase, GivenKafka, Kafka, Pipeline
from book_scenario import Scenario
from fix_faultbook import Book
from fix_stack import empty_broker
from own_servers import OwnDatabase
from psycopg import sql

from infra.postgres import server
from infra.provision import provision

Begin = Callable[..., Scenario]


@contextmanager
def pipeline_in(folder: Path, **about: Any) -> Iterator[Pipeline]:
    """Made, and taken down whatever happens."""
    folder.chmod(0o711)  # as root the database runs under an account that must be able to pass through
    kafka, database = Kafka(folder / "kafka"), OwnDatabase(folder / "postgres")
    try:
        made = Pipeline(folder, kafka, database, **about)
    except BaseException:
        kafka.close()
        database.close()
        raise
    try:
        yield made
    finally:
        made.close()


@contextmanager
def pipeline_on(kafka: str, database_server: str, folder: Path) -> Iterator[Pipeline]:
    """Made on servers that others use afterwards."""
    empty_broker(kafka)
    provision(kafka, partitions=PARTITIONS)
    server.ensure_database(database_server, "fault_book")
    dsn = database_server.rpartition("/")[0] + "/fault_book"
    services = {name: (name, "run") for name in ("streams", "sink", "imports", "watchdog")}
    made = Pipeline(folder, GivenKafka(kafka), GivenDatabase(dsn), services=services)
    try:
        yield made
    finally:
        made.close()
        with psycopg.connect(database_server, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier("fault_book")))


@pytest.fixture(scope="module")
def running_pipeline(stack_folder: Path, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """One for the module."""
    folder = stack_folder / f"book-{request.module.__name__.rpartition('.')[2]}"
    folder.mkdir()
    with pipeline_in(folder) as made:
        yield made


@pytest.fixture
def pipeline(running_pipeline: Pipeline) -> Pipeline:
    """Healthy at the beginning."""
    running_pipeline.heal()
    return running_pipeline


@pytest.fixture
def begin(pipeline: Pipeline, book: Book) -> Begin:
    """Begins a scenario: by default all rows of the steady devices count."""

    def make(*devices: str) -> Scenario:
        scenario = Scenario(pipeline, book, devices or pipeline.steady)
        scenario.flows()
        return scenario

    return make
