"""Lines that home-made programs print."""

import math

import pytest

from producers.sources.text import rows_of

NOW_US = 1_700_000_000_000_000


def parsed(*lines: str) -> tuple[list[tuple[str, int, str, float]], list[str]]:
    """((device, time, channel, value) in order, what was odd)."""
    odd: list[str] = []
    rows = rows_of(lines, device_id="pi-1", now_us=NOW_US, odd=odd.append)
    cells = [
        (each.device_id, int(at), channel, float(value))
        for each in rows
        for at, row in zip(each.times, each.values, strict=True)
        for channel, value in zip(each.channels, row, strict=True)
    ]
    return cells, odd


@pytest.mark.parametrize(
    "line",
    [
        "2023-11-14T22:13:20Z,t,21.5",
        "2023-11-14T23:13:20+01:00, t , 21.5",
        "1700000000,t,21.5",
        "t,21.5",
        ",t,21.5",
        '{"time": "2023-11-14T22:13:20Z", "channel": "t", "value": 21.5}',
        '{"time": 1700000000, "values": {"t": 21.5}}',
        '{"channel": "t", "value": "21.5", "device": "pi-1"}',
    ],
)
def test_every_way_to_say_one_reading(line: str) -> None:
    assert parsed(line) == ([("pi-1", NOW_US, "t", 21.5)], [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("2023-11-14T22:13:20,t,21.5", "no zone"),
        ("yesterday,t,21.5", "no time"),
        ("-5,t,21.5", "no time"),
        ("t,warm", "no number"),
        ("t", "got 1 parts"),
        ("a,b,c,d", "got 4 parts"),
        (",,5", "no name"),
        ('{"channel": "t"}', '"value"'),
        ('{"chanel": "t", "value": 1}', "unknown key 'chanel'"),
        ('{"channel": "t", "value": [1]}', "no number"),
        ('{"channel": "t", "value": true}', "no number"),
        ("{", "no JSON"),
        ('{"values": 3}', "must be an object"),
    ],
)
def test_a_line_that_cannot_be_taken_is_told_and_the_others_go_on(line: str, why: str) -> None:
    cells, odd = parsed("1700000000,a,1", line, "1700000001,a,2")
    assert [cell[3] for cell in cells] == [1.0, 2.0]
    assert len(odd) == 1
    assert why in odd[0]


@pytest.mark.parametrize("word", ["", "NaN", "nan", "inf"])
def test_no_value_is_a_missing_reading(word: str) -> None:
    ((_, _, _, value),), odd = parsed(f"1700000000,t,{word}")
    assert math.isnan(value)
    assert not odd


def test_readings_of_one_moment_share_a_row_and_repeated_ones_without_a_time_stay_apart() -> None:
    cells, _ = parsed("t,1", "h,2", "t,3", "h,4", "# a remark", "")
    assert cells == [
        ("pi-1", NOW_US, "t", 1.0),
        ("pi-1", NOW_US, "h", 2.0),
        ("pi-1", NOW_US + 1, "t", 3.0),
        ("pi-1", NOW_US + 1, "h", 4.0),
    ]


def test_a_thousand_lines_of_one_channel_are_one_array() -> None:
    lines = [f"{1_700_000_000 + n},t,{n}" for n in range(1000)]
    (rows,) = rows_of(lines, device_id="pi-1", now_us=NOW_US, odd=print)
    assert rows.values[:, 0].tolist() == list(range(1000))
