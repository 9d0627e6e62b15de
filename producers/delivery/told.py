"""How the link does, in a small file beside the spool, for `telltale edge spool`. Knows a file; decides nothing.

A heartbeat cannot tell of a broker that refuses the edge: the file is what an operator at the machine sees.
"""

from contextlib import suppress
from pathlib import Path

import orjson

from producers.delivery.link import LinkState
from producers.spool.look import LINK

DETAIL_S_MIN = 5.0  # between two notes of the same state in other words: spares SD cards


class LinkFile:
    """Written when the state changes; gone with a clean end."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LINK
        self._told: LinkState | None = None
        self._told_at = 0.0

    def tell(self, state: LinkState, *, now: float, now_us: int) -> None:
        """Best effort: a full disk has more important things to say."""
        told = self._told
        if state == told or (told and state.link is told.link and now - self._told_at < DETAIL_S_MIN):
            return
        self._told, self._told_at = state, now
        coming = self._path.with_name(f"{LINK}.coming")
        with suppress(OSError):
            coming.write_bytes(orjson.dumps({"link": state.link, "detail": state.detail, "since_us": now_us}))
            coming.replace(self._path)

    def end(self) -> None:
        with suppress(OSError):
            self._path.unlink()
