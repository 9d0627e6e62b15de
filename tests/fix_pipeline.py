"""The fault book's pipeline. One serves a module's scenarios one after the other; each begins healthy, whatever the one
before did.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from book_pipeline import Kafka, Pipeline
from book_scenario import Scenario
from fix_faultbook import Book
from own_servers import OwnDatabase

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
