"""What exports compute and write: text reads back as the same doubles; statistics do not depend on where slices end."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dashboard.exports.arrow import texts
from dashboard.exports.bins import binned, joined
from dashboard.exports.clock import clock_of, micros
from dashboard.exports.labels import plain
from dashboard.exports.request import ExportRequest, Figure, Interval
from dashboard.exports.text import Cells
from schemas.errors import Refused

doubles = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30)
readings = st.lists(st.tuples(st.integers(0, 40), st.floats(-1e6, 1e6)), min_size=1, max_size=60).map(sorted)
moments = st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001


@settings(max_examples=40)
@given(doubles, st.sampled_from([".", ","]), st.sampled_from(["", "-9999", "NA"]))
def test_cells_read_back_as_the_same_doubles(values: list[float], decimal: str, missing: str) -> None:
    cells = Cells(";", decimal, missing, "\r\n")
    stamps = texts([f"t{place}" for place in range(len(values))])
    text = cells.rows(stamps, [np.array(values), np.array(values)]).decode()
    rows = [row.split(";") for row in text.split("\r\n")]
    assert rows.pop() == [""]
    assert [row[0] for row in rows] == stamps.to_pylist()
    for value, row in zip(values, rows, strict=True):
        assert row[1] == row[2]
        if np.isfinite(value):
            assert float(row[1].replace(decimal, ".")) == value
        else:
            assert row[1] == missing


@given(readings, st.integers(0, 60), st.booleans())
def test_statistics_do_not_depend_on_where_a_slice_ends(
    rows: list[tuple[int, float]], cut: int, is_angle: bool
) -> None:
    begins = np.array([at // 7 * 7 for at, _ in rows], np.int64)
    values = np.array([value % 360 if is_angle else value for _, value in rows])
    whole = binned(begins, values, is_angle=is_angle)
    parts = joined(
        binned(begins[:cut], values[:cut], is_angle=is_angle), binned(begins[cut:], values[cut:], is_angle=is_angle)
    )
    np.testing.assert_array_equal(whole.begins_us, parts.begins_us)
    for name in ("count", "min", "max"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    for name in ("mean", "squares", "sine", "cosine"):
        scale = max(1.0, float(np.abs(values).max())) ** (2 if name == "squares" else 1)
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-9 * scale)


def test_figures_are_those_of_the_readings() -> None:
    bins = binned(np.array([0, 0, 0, 9], np.int64), np.array([350.0, 10.0, 30.0, 5.0]), is_angle=True)
    figures = bins.figures(is_angle=True)
    np.testing.assert_allclose(figures[Figure.MEAN], [10.0, 5.0])
    assert figures[Figure.COUNT].tolist() == [3, 1]
    north = binned(np.array([0, 0], np.int64), np.array([350.0, 10.0]), is_angle=True).figures(is_angle=True)
    assert 0 <= north[Figure.MEAN][0] < 1e-9
    straight = binned(np.array([0, 0, 0], np.int64), np.array([1.0, 2.0, 4.0]), is_angle=False).figures(is_angle=False)
    np.testing.assert_allclose(straight[Figure.SD], [np.std([1, 2, 4], ddof=1)])
    np.testing.assert_allclose(straight[Figure.SUM], [7.0])


@settings(max_examples=30)
@given(
    moments,
    st.sampled_from(["UTC", "+05:45", "-03:30", "Europe/Dublin", "America/St_Johns"]),
    st.sampled_from(list(Interval)[1:]),
)
def test_a_time_lies_in_its_interval_and_the_next_one_follows(time: datetime, zone: str, interval: Interval) -> None:
    clock = clock_of(zone, [], first=time - timedelta(days=200), last=time + timedelta(days=200))
    begin = clock.floor(time, interval)
    assert begin <= time < clock.next(begin, interval)
    assert clock.ceil(begin, interval) == begin
    assert clock.floors_us(np.array([micros(time)]), interval).tolist() == [micros(begin)]
    local = begin.astimezone(clock.zone)
    assert (local.minute % 10, local.second, local.microsecond) == (0, 0, 0)
    if interval is Interval.DAY:
        assert local.hour == 0
    if isinstance(clock.zone, ZoneInfo):
        assert clock.offset_minutes is None


@given(st.text(max_size=40))
def test_names_of_columns_are_printable_ascii_on_one_line(name: str) -> None:
    made = plain(name)
    assert made.isascii()
    assert made == "" or made.isprintable()
    assert '"' not in made


@pytest.mark.parametrize(
    "words",
    [
        {"zone": "+15:00"},
        {"zone": "Mars/Olympus"},
        {"zone": "../../etc/passwd"},
        {"missing": "a;b", "separator": ";"},
        {"missing": "x" * 50},
        {"separator": ",", "decimal": ","},
        {"figures": ["mean"]},
        {"quality": []},
        {"include_flags": ["a"], "exclude_flags": ["a"]},
        {"begin": "2020-01-01T00:00:00Z", "end": "2020-01-01T00:00:00Z"},
        {"begin": "2020-01-01T00:00:00"},
        {"station": None},
        {"unknown": 1},
    ],
)
def test_requests_that_make_no_sense_are_refused(words: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ExportRequest.model_validate({"format": "csv", "station": "hill", **words})


def test_requests_are_equal_by_what_they_say() -> None:
    said = {"format": "csv", "station": "hill", "zone": "+1:00"}
    one, other = ExportRequest(**said), ExportRequest(**{**said, "zone": "UTC+01:00"})
    assert one == other
    assert one.digest == other.digest
    assert ExportRequest.model_validate_json(one.model_dump_json()) == one
    with pytest.raises(Refused, match="cannot be told"):
        clock_of("station", [], first=datetime(2020, 1, 1, tzinfo=UTC), last=datetime(2020, 1, 2, tzinfo=UTC))
