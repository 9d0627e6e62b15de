"""Counting rows that repeat a stamp or step back, however the file is cut into chunks."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from producers.files.order import Order


@given(st.lists(st.integers(0, 30), max_size=60), st.data())
def test_counts_are_those_of_a_plain_reading(stamps: list[int], data: st.DataObject) -> None:
    order, at = Order(), 0
    while at < len(stamps):
        size = data.draw(st.integers(1, 9))
        order.take(np.array(stamps[at : at + size], np.int64))
        at += size
    assert order.repeated == len(stamps) - len(set(stamps))
    assert order.out_of_order == sum(b < a for a, b in itertools.pairwise(stamps))
    assert (order.first, order.last) == (min(stamps, default=None), max(stamps, default=None))
