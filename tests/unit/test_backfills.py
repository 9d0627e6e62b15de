"""What is told of gaps and of filling them, without a database."""

from datetime import UTC, datetime

from dashboard.imports.backfills import LONGEST, Backfill, lacking

BEGAN = datetime(2026, 11, 26, tzinfo=UTC)


def gap(device: str, missing: int) -> dict[str, object]:
    return {"device_id": device, "station_id": "hill", "missing": missing}


def test_the_device_that_lacks_most_comes_first_with_its_largest_gaps() -> None:
    found = lacking([gap("a", 50), gap("b", 40), gap("b", 30), *(gap("a", 1) for _ in range(9))])
    assert [(each.device_id, each.gaps, each.missing) for each in found] == [("b", 2, 70), ("a", 10, 59)]
    assert [len(each.longest) for each in found] == [2, LONGEST]


def test_what_came_of_a_backfill_is_told_in_words() -> None:
    backfill = Backfill(1, "a", "otto", BEGAN)
    assert backfill.words() == "at work"
    backfill.report = {"files": [{}], "edges": [{"frames": 3}, {"frames": 4}], "missing": 20, "left": 2}
    assert (
        backfill.words() == "1 file read again; 7 frames asked of spools here; 18 rows came back, 2 are still missing"
    )
    backfill.report = {"files": [], "edges": [], "missing": 0, "left": None}
    assert backfill.words() == "0 files read again"
    backfill.trouble = "kafka does not answer"
    assert backfill.words() == "kafka does not answer"
