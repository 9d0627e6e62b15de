"""Windographer's flag log: what is read, and what is refused by name of line."""

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.flags.windographer import channel_of, lines, text_of
from schemas.errors import Refused

HEAD = "Data Column\tFlag Name\tStart Time\tEnd Time\tTime Steps\r\n"
ICE = "Speed 80m N [m/s]\tIcing\t2016-12-24 10:00\t2016-12-24 12:00\t12\r\n"


def read(text, *, hours=0):
    return lines(text, name="log.txt", utc_offset=timedelta(hours=hours))


def test_times_are_of_the_zone_that_was_told():
    (line,) = read("Created by Windographer\r\n\r\n" + HEAD + ICE + "\r\n", hours=-5)
    assert (line.begin, line.end) == (datetime(2016, 12, 24, 15, tzinfo=UTC), datetime(2016, 12, 24, 17, tzinfo=UTC))
    assert (line.number, line.column, line.category) == (4, "Speed 80m N [m/s]", "Icing")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no log at all", "no Windographer flag log"),
        (HEAD + "Speed\tIcing\n", "line 2"),
        (HEAD + "Speed\tIcing\t24/12/2016 10:00\t24/12/2016 12:00\t12\n", "cannot be told"),
        (HEAD + ICE + "Speed\tIcing\t2016-12-24\t2016-12-24\t0\n", "line 3: start"),
        (HEAD + "Speed\tIcing\t0001-01-01T00:00+14:00\t2016-12-24\t0\n", "line 2: time 0001"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_line(text, why):
    with pytest.raises(Refused, match=why):
        read(text)


def test_bytes_of_windows_are_read_and_others_refused():
    assert text_of("Temp 2m [°C]".encode("latin-1"), name="x") == "Temp 2m [°C]"
    with pytest.raises(Refused, match="not a text"):
        text_of(b"PK\x03\x04\0", name="x")


def test_column_means_a_channel_by_name_or_as_told():
    assert channel_of("Spd80 [m/s]", ["Spd80"], {}) == "Spd80"
    assert channel_of("Speed 80m N [m/s]", ["Spd80"], {"Speed 80m N": "Spd80"}) == "Spd80"
    assert channel_of("Speed 80m N [m/s]", ["Spd80"], {}) is None
