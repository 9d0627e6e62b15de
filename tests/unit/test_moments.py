"""Times as people type them."""

from datetime import UTC, datetime

import pytest

from infra.moments import moment, zoned_moment
from schemas.errors import Refused

TEN = datetime(2016, 12, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2016-12-20T10:00", "2016-12-20 10:00Z", "2016-12-20T11:00+01:00"])
def test_a_moment_is_in_utc(text: str) -> None:
    assert moment(text, option="--from") == TEN
    assert moment(text, option="--from").utcoffset() == UTC.utcoffset(None)


def test_no_moment_is_none() -> None:
    assert moment(None, option="--from") is None


@pytest.mark.parametrize("reads", [moment, zoned_moment])
def test_what_is_no_time_is_refused_with_what_was_expected(reads) -> None:
    with pytest.raises(Refused, match=r'--to: expected a time such as .*, got "soon"'):
        reads("soon", option="--to")


@pytest.mark.parametrize("reads", [moment, zoned_moment])
@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_does_not_have_is_refused(reads, text: str) -> None:
    with pytest.raises(Refused, match="expected a time such as"):
        reads(text, option="--to")


def test_a_zone_is_asked_for_where_it_matters() -> None:
    assert zoned_moment("2016-12-20T10:00Z", option="--from") == TEN
    with pytest.raises(Refused, match="has no zone"):
        zoned_moment("2016-12-20T10:00", option="--from")
