"""A batch keeps its bound whatever sizes the records have; nothing that has come is left without need."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.timescale.intake import AT_ONCE_MAX, RECORDS_MAX, Intake

ROWS_MAX, BYTES_MAX = 50_000, 32 << 20
A_ROW = 18  # bytes


class Record:
    def __init__(self, rows: int) -> None:
        self.rows, self._value = rows, bytes(rows * A_ROW)

    def value(self) -> bytes:
        return self._value


class Queue:
    """A client that has fetched these."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.records: list[Any] = [Record(rows) for rows in sizes]

    def poll(self, timeout: float) -> Any:
        return self.records.pop(0) if self.records else None

    def consume(self, num_messages: int, timeout: float) -> list[Any]:
        assert num_messages >= 1
        taken, self.records = self.records[:num_messages], self.records[num_messages:]
        return taken


def batches(sizes: Sequence[int]) -> list[list[int]]:
    """Rows of each record, read by read."""
    queue, found = Queue(sizes), []
    intake = Intake(queue)
    while taken := intake.take(0.1, rows=ROWS_MAX, octets=BYTES_MAX):
        rows: Any = [record.rows for record in taken]
        intake.learn(sum(rows), sum(rows) * A_ROW)
        found.append(rows)
    return found


@given(st.lists(st.one_of(st.integers(1, 5), st.integers(5_000, 60_000)), max_size=60))
def test_every_record_is_taken_once_and_in_order(sizes: list[int]) -> None:
    assert [rows for batch in batches(sizes) for rows in batch] == sizes


@pytest.mark.parametrize("sizes", [[20_000] * 60, [60_000] * 20])
def test_large_records_do_not_burst_a_batch(sizes: list[int]) -> None:
    for batch in batches(sizes):
        assert sum(batch[:-1]) <= 1.3 * ROWS_MAX, "one record beyond the bound, and what the guess was off by"


@pytest.mark.parametrize("sizes", [[1, 60_000] * 20, [1] * 40 + [20_000] * 40, [1] * 5_000 + [60_000] * 20])
def test_large_records_behind_small_ones_go_beyond_it_by_few(sizes: list[int]) -> None:
    for batch in batches(sizes):
        assert sum(batch[:-AT_ONCE_MAX]) <= 1.3 * ROWS_MAX


def test_small_records_are_taken_by_thousands() -> None:
    assert [len(batch) for batch in batches([1] * 5_000)] == [RECORDS_MAX, RECORDS_MAX, 1_000]


def test_a_full_batch_still_takes_one() -> None:
    queue = Queue([10, 10])
    assert len(Intake(queue).take(0, rows=0, octets=0)) == 1
