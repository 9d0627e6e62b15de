"""The mark beside a committed offset: whether we have set it, or an operator."""

import pytest

from infra.offsets import Mark, mark_of


@pytest.mark.parametrize("mark", [Mark(3), Mark(0, 0), Mark(3, 12)])
def test_our_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert mark_of(str(mark)) == mark


@pytest.mark.parametrize("metadata", [None, "", "telltale", "telltale/", "telltale/x", "elsewhere/3", "telltale/1/2/3"])
def test_an_offset_is_ours_only_with_our_mark(metadata: str | None) -> None:
    assert mark_of(metadata) is None
