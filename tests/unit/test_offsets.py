"""Questions about offsets are asked until leaders are known; and the mark beside a committed one: ours or not."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from infra.offsets import Mark, mark_of, span


class Asked:
    """Answers as a broker does that has just started: with errors first."""

    def __init__(self, *errors: int) -> None:
        self.left = list(errors)

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        if self.left:
            raise KafkaException(KafkaError(self.left.pop(0)))
        return 3, 7


def test_a_leader_that_is_not_yet_known_is_waited_for() -> None:
    asked = Asked(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.FENCED_LEADER_EPOCH, KafkaError.LEADER_NOT_AVAILABLE)
    assert span(asked, "readings.raw", 0) == (3, 7)


def test_what_does_not_pass_is_told_at_once() -> None:
    asked = Asked(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.NOT_LEADER_FOR_PARTITION)
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        span(asked, "readings.raw", 0)
    assert len(asked.left) == 1


def test_a_leader_that_does_not_come_is_told_in_the_end() -> None:
    with pytest.raises(KafkaException, match="NOT_LEADER_FOR_PARTITION"):
        span(Asked(*[KafkaError.NOT_LEADER_FOR_PARTITION] * 100), "readings.raw", 0, within_s=0.2)


@pytest.mark.parametrize("mark", [Mark(3), Mark(0, 0), Mark(3, 12)])
def test_our_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert mark_of(str(mark)) == mark


@pytest.mark.parametrize("metadata", [None, "", "telltale", "telltale/", "telltale/x", "elsewhere/3", "telltale/1/2/3"])
def test_an_offset_is_ours_only_with_our_mark(metadata: str | None) -> None:
    assert mark_of(metadata) is None
