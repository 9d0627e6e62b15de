"""One database transaction a batch: the fence, the split write path and the projections against a real server."""

import threading
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from fix_sink import START_US, clean_frame

from schemas.alarms import Alarm, AlarmState, Severity, alarm_event
from schemas.devices import Calibration, Device, Sensor, Station
from schemas.frames import WindowFrame
from schemas.records import Heartbeat, ImportStatus
from schemas.topics import ALARMS, DEVICES, HEARTBEATS, IMPORTS, READINGS_CLEAN, WINDOWS
from sinks.timescale.batch import Batch, Entry, Part, Removed, Stretch
from sinks.timescale.positions import Claim, Fenced
from sinks.timescale.store import APPLICATION, Patience, Store

pytestmark = pytest.mark.integration

PART = Part(READINGS_CLEAN, 0)
NOW = datetime(2020, 1, 1, tzinfo=UTC)


def claim(part=PART, *, topic_id="t1", cluster_id="c1", log_start=0, reset_to=None):
    return Claim(part, cluster_id, topic_id, log_start, reset_to)


def batch(start, *bodies, part=PART, key=b"mast-0"):
    entries = [Entry(part, start + n, key, b"", 1_600_000_000_000, body) for n, body in enumerate(bodies)]
    return Batch(entries, {part: Stretch(start, start + len(bodies))})


@pytest.fixture
def open_store(stored):
    stores = []

    def make(owner="first", *, part=PART, **options):
        store = Store(stored.dsn, owner=owner, patience=Patience(lock_s=1), **options)
        stores.append(store)
        store.open(claim(part))
        return store

    yield make
    for store in stores:
        store.close()


def stands(stored, part=PART):
    return stored.one("SELECT next_offset FROM sink_offsets WHERE topic = %s AND part = %s", *part)


def test_owner_of_before_is_refused_and_leaves_no_row(stored, open_store):
    zombie, successor = open_store("zombie"), open_store("successor")
    successor.write(batch(0, clean_frame("mast-0", 0, 5)))
    for start in (0, 1):
        with pytest.raises(Fenced):
            zombie.write(batch(start, clean_frame("mast-0", 100, 5)))
    assert stored.one("SELECT count(*) FROM readings") == 10
    assert stands(stored) == 1


def test_gap_is_refused(open_store):
    store = open_store()
    store.write(batch(0, clean_frame("mast-0", 0, 5)))
    with pytest.raises(Fenced):
        store.write(batch(2, clean_frame("mast-0", 5, 5)))


def test_batch_whose_commit_was_not_heard_of_is_recognised(stored, open_store):
    store = open_store()
    for _ in range(2):
        store.write(batch(0, clean_frame("mast-0", 0, 5)))
    assert stands(stored) == 1


def test_owner_frozen_inside_its_transaction_loses_its_session(stored, open_store):
    open_store("frozen").close()
    frozen = psycopg.connect(stored.dsn, application_name=APPLICATION.format("frozen"))
    frozen.execute("UPDATE sink_offsets SET updated_at = now()")  # and stands still
    open_store("successor")
    with pytest.raises(psycopg.OperationalError):
        frozen.execute("SELECT 1")
    frozen.close()
    assert stored.one("SELECT owner FROM sink_offsets") == "successor"


def test_position_of_the_database_wins_unless_it_was_reset_or_the_log_is_another(stored, open_store):
    store = open_store()
    store.write(batch(0, clean_frame("mast-0", 0, 5)))
    position, replay = store.open(claim(log_start=0))
    assert (position.next_offset, position.generation, replay) == (1, 0, None)
    for changed, reason in (
        (claim(reset_to=7), "operator"),
        (claim(topic_id="t2", log_start=3), "topic_created_again"),
        (claim(topic_id="t2", cluster_id="c2", log_start=4), "other_cluster"),
    ):
        position, replay = store.open(changed)
        assert replay.reason == reason
        assert position.next_offset == replay.moved_to
    assert stored.rows("SELECT generation, stood_at, moved_to FROM replays ORDER BY 1") == [
        (1, 1, 7),
        (2, 7, 3),
        (3, 3, 4),
    ]


@pytest.mark.parametrize("copy", [True, False])
def test_late_repeated_and_corrected_rows_end_as_the_last_writer_said(stored, open_store, copy):
    store, expected = open_store(copy=copy), {}
    chance = np.random.default_rng(5)
    for start in range(12):
        first = int(chance.integers(0, 3000))
        sent = [clean_frame("mast-0", first + shift, 400, correction=start + shift / 8) for shift in (0, 100)]
        for frame in sent:
            for row, time in enumerate(frame.times.tolist()):
                for column, channel in enumerate(frame.channels):
                    expected["mast-0", channel, time] = frame.values[row, column].item()
        store.write(batch(2 * start, *sent))
        if start == 6:
            store.forget()
    assert {key: row[1] for key, row in stored.readings().items()} == expected


def test_copy_that_meets_a_row_of_another_writer_goes_by_the_upsert(stored, open_store):
    store, other = open_store(), open_store("other", part=Part(READINGS_CLEAN, 1))
    store.write(batch(0, clean_frame("mast-0", 0, 1000)))
    other.write(batch(0, clean_frame("mast-0", 1500, 10), part=Part(READINGS_CLEAN, 1)))
    store.write(batch(1, clean_frame("mast-0", 1000, 1000)))
    assert stored.one("SELECT count(*) FROM readings") == 4000


def test_two_sinks_meet_new_sensors_and_new_months_at_once(stored, open_store):
    parts = [Part(READINGS_CLEAN, number) for number in range(4)]
    stores = [open_store(f"sink-{part.number}", part=part) for part in parts]
    failed = []

    def write(store, part):
        try:
            for month in range(6):
                frame = clean_frame("mast-0", month * 2_700_000 + part.number, 1)
                store.write(batch(month, frame, part=part))
        except Exception as error:  # noqa: BLE001 - to be shown by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=write, args=each) for each in zip(stores, parts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert stored.one("SELECT count(*) FROM readings") == 48
    assert stored.one("SELECT count(*) FROM sensors") == 2


def test_more_sensors_than_are_remembered_are_looked_up_again(stored, open_store, monkeypatch):
    monkeypatch.setattr("sinks.timescale.sensors.KNOWN_MAX", 3)
    store = open_store()
    both, one, other = ("Spd80", "Dir78"), ("Spd80",), ("Dir78", "Temp2")
    store.write(batch(0, clean_frame("mast-0", 0, 5, channels=both), clean_frame("mast-1", 0, 5, channels=both)))
    store.write(batch(2, clean_frame("mast-0", 5, 5, channels=one), clean_frame("mast-1", 5, 5, channels=both)))
    store.write(batch(4, clean_frame("mast-1", 10, 5, channels=other), clean_frame("mast-2", 0, 5, channels=one)))
    found = dict(
        stored.rows("SELECT device_id || channel, count(*) FROM readings JOIN sensors USING (sensor_id) GROUP BY 1")
    )
    expected = {"mast-0Spd80": 10, "mast-0Dir78": 5, "mast-1Spd80": 10, "mast-1Dir78": 15, "mast-1Temp2": 5}
    assert found == expected | {"mast-2Spd80": 5}


def mast(**replaced):
    calibration = Calibration(slope=0.76, offset=0.2, valid_to=NOW)
    sensors = [
        Sensor(
            channel="Spd80",
            point="80 m",
            quantity="wind_speed",
            unit="m/s",
            statistic="avg",
            calibrations=(calibration,),
        ),
        Sensor(channel="Dir78", point="78 m", quantity="wind_direction", unit="deg", statistic="avg"),
    ]
    told = {"device_id": "mast-0", "name": "Mast", "station": Station(station_id="hill", name="Hill", latitude_deg=1.5)}
    return Device(**(told | {"sensors": sensors, "configured_at": NOW, "configured_by": "test"} | replaced))


def test_devices_fill_in_what_the_readings_began(stored, open_store):
    store = open_store()
    store.write(batch(0, clean_frame("mast-0", 0, 5)))
    part = Part(DEVICES, 0)
    store.open(claim(part))
    store.write(batch(0, mast(), mast(name="Mast A"), part=part))
    assert stored.rows("SELECT channel, quantity, active FROM sensors ORDER BY 1") == [
        ("Dir78", "wind_direction", True),
        ("Spd80", "wind_speed", True),
    ]
    assert stored.rows('SELECT slope, "offset", valid_to FROM calibrations') == [(0.76, 0.2, NOW)]
    assert stored.rows("SELECT d.name, s.latitude_deg FROM devices d JOIN stations s USING (station_id)") == [
        ("Mast A", 1.5)
    ]
    store.write(batch(2, mast(sensors=mast().sensors[:1]), part=part))
    assert stored.rows("SELECT channel FROM sensors WHERE active") == [("Spd80",)]
    store.write(batch(3, Removed("mast-0"), part=part))
    assert stored.rows("SELECT active FROM devices UNION SELECT active FROM sensors") == [(False,)]


def test_alarms_are_current_and_each_event_stays_once(stored, open_store):
    part = Part(ALARMS, 0)
    store = open_store(part=part)
    raised = Alarm(
        alarm_id="a1", rule="silence", source="device/mast-0", device_id="mast-0", station_id="hill",
        severity=Severity.MAJOR, state=AlarmState.RAISED, reason="silent", onset=NOW, message="look",
    )  # fmt: skip
    cleared = raised.model_copy(update={"state": AlarmState.CLEARED, "station_id": "dale"})  # moved meanwhile
    events = [
        alarm_event(raised, time=NOW, speaker="test"),
        alarm_event(cleared, time=NOW.replace(hour=1), speaker="test"),
    ]
    store.write(batch(0, *events, part=part))
    store.write(batch(2, events[0], part=part))
    assert stored.rows("SELECT state, station_id FROM alarms") == [("cleared", "dale")]
    assert stored.rows("SELECT event->>'specversion' FROM alarm_events") == [("1.0",), ("1.0",)]


def test_windows_heartbeats_and_imports_read_again_change_nothing(stored, open_store):
    window = WindowFrame(
        "mast-0", 0, ("Spd80",), *(np.array([n], np.int64) for n in (START_US, 600, 0, 10, 10, 0, 0, 0)),
        *(np.array([x]) for x in (8.0, 0.5, 7.0, np.nan)),
    )  # fmt: skip
    counts = dict.fromkeys(("next_sequence", "depth", "depth_bytes", "accepted", "sent", "dropped", "refused"), 1)
    beat = Heartbeat(device_id="mast-0", spool_id="s", time=NOW, started=NOW, version="1", free_disk_bytes=9, **counts)
    state = ImportStatus(sha256="ab", name="f.dat", state="sent", rows=3, time=NOW)
    store = open_store()
    for topic, body in ((WINDOWS, window), (HEARTBEATS, beat), (IMPORTS, state)):
        part = Part(topic, 0)
        store.open(claim(part))
        store.write(batch(0, body, body, part=part))
        store.write(batch(2, body, part=part))
    assert stored.rows("SELECT length_s, count, mean, max FROM windows")[0][:3] == (600, 10, 8.0)
    assert stored.one("SELECT count(*) FROM heartbeats") == 1
    assert stored.rows("SELECT state, rows FROM imports") == [("sent", 3)]


def test_statistics_of_directions_are_circular_and_leave_bad_rows_out(stored, open_store):
    store = open_store()
    part = Part(DEVICES, 0)
    store.open(claim(part))
    store.write(batch(0, mast(), part=part))
    frame = clean_frame("mast-0", 0, 3)
    frame.values[:] = [[1.0, 350.0], [2.0, 10.0], [900.0, 90.0]]
    frame.quality[:] = [[1, 1], [2, 1], [4, 4]]
    store.write(batch(0, frame))
    for span in ("10min", "hourly", "daily"):
        found = stored.rows(
            f"SELECT quantity, count, mean FROM statistics_{span} JOIN sensors USING (sensor_id) ORDER BY quantity"
        )
        assert [row[:2] for row in found] == [("wind_direction", 2), ("wind_speed", 2)]
        assert [row[2] for row in found] == pytest.approx([0, 1.5], abs=1e-9)


def test_a_mean_direction_is_below_360(stored):
    sines = [-1e-17, -1e-300, -0.0, 0.0, 1e-17, -1e-3]
    means = [stored.one("SELECT circular_mean_deg(%s, 1)", sine) for sine in sines]
    assert means[:4] == [0, 0, 0, 0]
    assert 0 < means[4] < 1e-14
    assert 359.9 < means[5] < 360
    assert stored.one("SELECT circular_mean_deg(0, -1)") == 180


def test_batch_made_ready_ahead_is_stored_as_any_other(stored, open_store):
    store = open_store()
    unknown = batch(0, clean_frame("mast-0", 0, 500))
    store.foresee(unknown)
    assert unknown.prepared is None  # its sensors are not known: left to `write`
    store.write(unknown)
    ready, corrected = batch(1, clean_frame("mast-0", 500, 500)), batch(2, clean_frame("mast-0", 700, 20, correction=1))
    for each in (ready, corrected):
        store.foresee(each)
        assert each.prepared is not None
    assert not corrected.prepared.pieces[0].fresh  # behind the rows of `ready`, which are not stored yet
    store.write(ready)
    stored.rows("DELETE FROM sensors WHERE channel = 'Dir78' RETURNING 1")
    store.forget()
    store.write(corrected)  # by the sensors of now
    assert stored.one("SELECT count(*) FROM readings JOIN sensors USING (sensor_id) WHERE channel = 'Dir78'") == 20
    assert stored.one("SELECT count(*) FROM readings JOIN sensors USING (sensor_id) WHERE channel = 'Spd80'") == 1000
    assert stands(stored) == 3
