"""A partition whose Kafka client does not come back ends the worker; in time it does not."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from streams.agents import partition
from streams.agents.partition import Partition, Stuck
from streams.settings import StreamsSettings


class Record:
    timestamp = 0
    value = b"x"


class Stands:
    """What `Partition` needs of an ownership; `commit` is what the client does."""

    number = 3

    def __init__(self, commit: Callable[[], None]) -> None:
        self._commit = commit

    def open(self, *, transaction_timeout_s: int) -> None:
        pass

    def work_out(self, records: Any) -> Any:
        return records

    def commit(self, worked: Any) -> None:
        self._commit()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "ANSWER_S", -4.9)


async def ends(commit: Callable[[], None], *, closing: bool, after: Callable[[], None] = lambda: None) -> list[Any]:
    """With which errors the worker was ended: by one record, or by being closed while that is committed."""
    failed: list[BaseException] = []
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin() -> None:
        loop.call_soon_threadsafe(began.set)
        commit()

    with ThreadPoolExecutor(3) as executor:
        ownership: Any = Stands(begin)
        settings = StreamsSettings(transaction_timeout_s=5)
        one = Partition(ownership, settings, executor, turn=threading.Lock(), failed=failed.append)
        await one.opened.wait()
        records: Any = [Record()]
        await one.put(records)
        await began.wait()
        await (one.close() if closing else one._task)
        after()
    return failed


@pytest.mark.parametrize("closing", [False, True])
def test_a_client_that_does_not_come_back_ends_the_worker(*, short: None, closing: bool) -> None:
    comes_back = threading.Event()
    (error,) = asyncio.run(ends(lambda: comes_back.wait() and None, closing=closing, after=comes_back.set))
    assert isinstance(error, Stuck)
    assert "partition 3" in str(error)


def test_one_that_fails_ends_the_worker() -> None:
    def fails() -> None:
        raise RuntimeError("fenced")

    (error,) = asyncio.run(ends(fails, closing=False))
    assert str(error) == "fenced"


def test_one_that_comes_back_does_not() -> None:
    assert asyncio.run(ends(lambda: None, closing=True)) == []
