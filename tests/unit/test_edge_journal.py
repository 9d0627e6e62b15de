"""What a running edge writes to its log."""

import io
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from producers import journal

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    said = journal.line(
        "info", "source failed", {"source": "exec", "detail": 'said "no"\nand a=b', "code": None}, now=AT
    )
    assert said == (
        'ts=2024-05-01T12:00:00.000000Z level=info event="source failed" service=edge source=exec '
        'detail="said \\"no\\"\\nand a=b" code='
    )


def test_a_log_that_cannot_be_written_costs_no_source_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    journal.warning("readings refused", source="exec")


def test_a_running_edge_loads_nothing_that_it_does_not_need() -> None:
    """What is left out here was measured in megabytes."""
    heavy = ("structlog", "rich", "psutil", "prometheus_client", "opentelemetry")
    asked = f"import sys, producers.running; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
