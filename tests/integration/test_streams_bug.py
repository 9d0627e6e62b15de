"""A frame on which our own code throws: set aside with its coordinates, told once, and the others go on."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient
from fix_stage import START_US, US, Wire, apply, consumed, make_device, make_frame

from infra.client import connection
from schemas.devices import Device
from schemas.rejection import Rejection
from schemas.topics import HEARTBEATS, READINGS_RAW
from streams.agents.devices import DeviceTable
from streams.agents.ownership import Ownership
from streams.agents.told import Told
from streams.plan import Plan, plan_of

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions() -> int:
    return 1


@pytest.fixture
def table(wire: Wire) -> Iterator[DeviceTable]:
    """Two devices; the calibration of `bad` has lost its segments."""
    wire.configure(make_device("good"), make_device("bad"))
    failures: list[BaseException] = []
    table = DeviceTable(wire.kafka, AdminClient(connection(wire.kafka)), wire.codec, failed=failures.append)
    table.start()
    plan = table.plan("bad")
    assert plan is not None
    channels = ("c0", "c1", "c2")
    selection = plan.select(channels)
    broken = replace(selection.segments, edges=np.zeros(7, np.int64), slope=np.empty((0, 3)))
    plan.selections[channels] = replace(selection, segments=broken)
    yield table
    table.stop()
    assert failures == []


def test_a_configuration_that_makes_our_code_throw_stops_no_other_device(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thrown(device: Device) -> Plan:
        if device.device_id == "bad" and device.name == "bad":
            raise OverflowError("a bug")
        return plan_of(device)

    monkeypatch.setattr("streams.agents.devices.plan_of", thrown)
    wire.configure(make_device("bad"), make_device("good"))
    failures: list[BaseException] = []
    table = DeviceTable(wire.kafka, AdminClient(connection(wire.kafka)), wire.codec, failed=failures.append)
    table.start()
    assert table.plan("bad") is None
    assert table.plan("good") is not None
    wire.configure(make_device("bad").model_copy(update={"name": "mended"}))
    table.catch_up()
    made = table.plan("bad")
    assert made is not None
    wire.configure(make_device("bad"))  # what was right before counts
    table.catch_up()
    assert table.plan("bad") == made
    table.stop()
    assert failures == []


def test_a_frame_that_makes_our_code_throw_is_rejected_and_told_once(wire: Wire, table: DeviceTable) -> None:
    told = Told(wire.kafka, failed=lambda error: None)
    told.start()
    owned = Ownership(0, 1, kafka=wire.kafka, codec=wire.codec, devices=table, told=told)
    owned.open(transaction_timeout_s=20)
    apply(
        owned,
        [
            consumed(0, make_frame("bad", 0, first=0, rows=2), at_s=10),
            consumed(1, make_frame("good", 0, first=0, rows=2), at_s=10),
            consumed(2, make_frame("bad", 1, first=2, rows=2), at_s=11),
        ],
    )
    apply(owned, [consumed(3, make_frame("bad", 2, first=4, rows=2), at_s=12)])

    assert {frame.device_id for frame in wire.clean()} == {"good"}
    rejected = wire.rejected()
    assert [(r.reason, r.device_id, r.offset) for r in rejected] == [(Rejection.OUR_ERROR, "bad", o) for o in (0, 2, 3)]
    digests = {r.detail.rpartition("traceback ")[2].rstrip(")") for r in rejected}
    assert len(digests) == 1
    (raised,) = wire.alarms()
    assert (raised.data.rule, raised.data.source, raised.data.state) == ("frames_throw", "device/bad", "raised")
    assert digests.pop() in raised.data.message

    plan = table.plan("bad")
    assert plan is not None
    plan.selections.clear()  # mended
    apply(owned, [consumed(4, make_frame("bad", 3, first=6, rows=2), at_s=13)])
    ends = {READINGS_RAW: 5, HEARTBEATS: 0}
    owned.look_for_silence(ends, now_us=START_US + 14 * US, look_every_us=US)
    assert [event.data.state for event in wire.alarms()] == ["raised"]
    owned.look_for_silence(ends, now_us=START_US + 74 * US, look_every_us=US)
    assert [event.data.state for event in wire.alarms() if event.data.rule == "frames_throw"] == ["raised", "cleared"]
    assert {frame.device_id for frame in wire.clean()} == {"good", "bad"}
    told.stop()
