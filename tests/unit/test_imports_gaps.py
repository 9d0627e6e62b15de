"""What is missing, as ranges and as a picture; what is read again for it."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dashboard.imports.gaps import Life, calendar, mark, shares
from producers.imports.upkeep.backfill import joined

HOUR = timedelta(hours=1)


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def test_shares_count_only_when_readings_are_expected() -> None:
    life = Life(600.0, at(1, 12), at(3))
    found = shares([life, life], {date(2026, 1, 1): 72, date(2026, 1, 2): 288}, begin=None, end=None)
    assert found == {date(2026, 1, 1): 0.5, date(2026, 1, 2): 1.0}
    cut = shares([life], {date(2026, 1, 1): 36}, begin=at(1, 18), end=at(2))
    assert cut == {date(2026, 1, 1): 1.0}


def test_calendar_has_a_line_for_each_month_and_shortens_empty_years() -> None:
    days = {date(2025, 1, 31): 1.0, date(2025, 2, 1): 0.3}
    days |= {date(2025, 3, 1) + timedelta(days=number): 0.0 for number in range(300)}
    lines = calendar(days)
    assert lines[1] == f"2025-01 {' ' * 30}█  100%"
    assert lines[2].startswith("2025-02 ▒ ")
    assert lines[3] == "2025-03 to 2025-12: 10 months with nothing"
    assert [mark(share) for share in (None, 0.0, 0.1, 0.3, 0.8, 1.0)] == [" ", "·", "░", "▒", "▓", "█"]


ranges = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 50)).map(lambda each: (each[0], each[0] + each[1])))


@given(ranges, st.integers(1, 20))
def test_joined_ranges_cover_what_was_asked_in_order_and_are_few(asked: list[tuple[int, int]], most: int) -> None:
    found = joined(asked, most=most)
    assert len(found) <= most
    assert all(former[1] < later[0] for former, later in pairwise(found))
    for begin, end in asked:
        assert any(since <= begin and end <= until for since, until in found)
    if len(joined(asked, most=10_000)) <= most:
        covered = {moment for begin, end in asked for moment in range(begin, end)}
        assert sum(end - begin for begin, end in found) == len(covered)
