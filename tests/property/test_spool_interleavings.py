"""Any interleaving of accept, cut, acknowledge, drop, crash and restart: accepted = acknowledged + spooled, and an
identity never means two contents."""

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from fix_edge import some_rows
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from producers.spool import FrameKey, Limits, Spool
from producers.spool.kept import ask
from schemas.errors import Refused

CHANNELS = (("a",), ("a", "b"), ("c",))


class SpoolLife(RuleBasedStateMachine):
    """The model: multisets of accepted and acknowledged cells, and what each identity has ever meant."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.now = 0
        self.accepted: Counter[tuple] = Counter()  # type: ignore[type-arg]  # (device, channel, time)
        self.acknowledged: Counter[tuple] = Counter()  # type: ignore[type-arg]  # the same
        self.meant: dict[FrameKey, tuple] = {}  # type: ignore[type-arg]  # cells in order
        self.done: set[FrameKey] = set()
        self.next_row = 0
        self.spool = self.open()

    def open(self) -> Spool:
        return Spool(self.folder, clock_us=lambda: self.now, limits=Limits(keep_bytes=2_000))

    def content(self, key: FrameKey) -> tuple:  # type: ignore[type-arg]  # of cells
        frame = self.spool.read(key)
        return tuple((key.device_id, channel, int(at)) for at in frame.times for channel in frame.channels)

    @rule(
        parts=st.lists(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(CHANNELS), st.integers(1, 4)), max_size=4)
    )
    def accept(self, parts: list[tuple[str, tuple[str, ...], int]]) -> None:
        self.now += 1
        rows = []
        for device, channels, count in parts:
            rows.append(some_rows(count, device=device, channels=channels, first=self.next_row))
            self.next_row += count
        self.spool.accept(rows)
        self.accepted.update((r.device_id, c, int(at)) for r in rows for at in r.times for c in r.channels)

    @rule(room=st.integers(1, 200), frame=st.integers(16, 120))
    def cut(self, room: int, frame: int) -> None:
        for each in self.spool.turn(room_bytes=room, frame_bytes_max=frame):
            assert each.key not in self.meant
            self.meant[each.key] = self.content(each.key)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        waiting = [each.key for each in self.spool.unacknowledged()]
        keys = data.draw(st.lists(st.sampled_from(waiting), unique=True)) if waiting else []
        late = data.draw(st.lists(st.sampled_from(sorted(self.done)), max_size=1)) if self.done else []
        self.spool.turn([*keys, *late], frame_bytes_max=1)
        for key in keys:
            self.acknowledged.update(self.meant[key])
        self.done.update(keys)

    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        waiting = [each.key for each in self.spool.unacknowledged()]
        if waiting:
            key = data.draw(st.sampled_from(waiting))
            self.spool.split(key)  # the broker has refused it, so it may mean less from now on
            self.meant[key] = self.content(key)

    @rule(first=st.integers(0, 20), count=st.integers(1, 20))
    def ask_again(self, first: int, count: int) -> None:
        """Only what a person asked for goes again, accepted once more under what it always meant."""
        assert not self.spool.send_again()
        with suppress(Refused):
            ask(self.folder, from_us=first * 1_000_000, to_us=(first + count) * 1_000_000, device_id=None)
        for each in self.spool.send_again():
            assert self.content(each.key) == self.meant[each.key]
            self.done.remove(each.key)
            self.accepted.update(self.meant[each.key])

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = self.open()

    @rule()
    def crash(self) -> None:
        """What a kill leaves: the files as they are, read by a new process."""
        copy = Path(tempfile.mkdtemp(prefix="spool-"))
        for name in ("spool.db", "spool.db-wal"):
            if (self.folder / name).exists():
                shutil.copy(self.folder / name, copy / name)
        self.spool.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.spool = self.open()

    @invariant()
    def nothing_lost_nothing_twice(self) -> None:
        framed = [each.key for each in self.spool.unacknowledged()]
        assert not self.done & set(framed)
        spooled: Counter[tuple] = Counter()  # type: ignore[type-arg]  # as above
        for key in framed:
            assert self.content(key) == self.meant[key]
            spooled.update(self.meant[key])
        counts = [self.spool.counts(device) for device in self.spool.devices()]
        assert sum(c.accepted for c in counts) == self.accepted.total()
        assert sum(c.sent for c in counts) == self.acknowledged.total()
        assert sum(c.bytes for c in counts) == self.spool.bytes
        if not self.spool.unframed:
            assert spooled + self.acknowledged == self.accepted

    def teardown(self) -> None:
        self.cut(room=1 << 20, frame=1 << 16)
        self.nothing_lost_nothing_twice()
        assert not self.spool.unframed
        self.spool.close()
        shutil.rmtree(self.folder)


TestSpoolLife = SpoolLife.TestCase
TestSpoolLife.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
