"""Spans of frames on their way from the spool to the broker. Knows frames; what a span is `infra.telemetry` knows."""

from infra.telemetry.tracing import Followed, Tracing
from producers.spool import Cut, FrameKey


class Traces:
    """Of one sender, used by its thread alone."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._open: dict[FrameKey, Followed] = {}

    def begin(self, cut: Cut) -> tuple[tuple[str, bytes], ...]:
        """The frame is handed to the client now; what goes along in its headers."""
        self.end(cut.key, error="sent again")
        about: dict[str, int | str] = {
            "device": cut.key.device_id,
            "sequence": cut.key.sequence,
            "readings": cut.readings,
            "bytes": cut.bytes,
        }
        followed = self._tracing.send("edge.send", about)
        if followed.headers:
            self._open[cut.key] = followed
        return followed.headers

    def end(self, key: FrameKey, *, error: str | None = None) -> None:
        """The broker has said what it does with the frame."""
        followed = self._open.pop(key, None)
        if followed is not None:
            followed.end(error)

    def end_all(self) -> None:
        """The client is dropped: nobody answers for what it had."""
        for key in list(self._open):
            self.end(key, error="the link was lost")
