"""The sender, turned by hand, when the spool's disk says no at the wrong moment. No broker."""

import time
from pathlib import Path

import pytest
from fix_edge import some_rows

from infra import ports
from producers.delivery.sender import Sender
from producers.settings import EdgeSettings
from producers.spool import DiskTrouble, Spool


def test_frames_on_their_way_go_again_although_the_disk_was_sick_when_the_producer_was_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Spool(tmp_path, clock_us=lambda: 0) as spool:
        settings = EdgeSettings(device_id="mast-7", linger_s=0)
        nobody = f"127.0.0.1:{ports.free()}"
        sender = Sender(spool, address=nobody, settings=settings, devices=(), clock_us=lambda: 0, beats=False)
        sender._open()
        spool.accept([some_rows(10)])
        now = time.monotonic()
        sender._turn(now)
        sender._send(now)
        (on_its_way,) = sender._in_flight
        sender._fatal = True
        with monkeypatch.context() as sick:
            sick.setattr(spool, "unacknowledged", lambda: (_ for _ in ()).throw(DiskTrouble("disk I/O error")))
            with pytest.raises(DiskTrouble):
                sender._turn(now)
        sender._turn(now)
        assert [cut.key for cut in sender._ready] == [on_its_way]
        sender._drop_producer()
