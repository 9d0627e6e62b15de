"""Backups on disk and their schedule, by a manual clock; what is made here are folders, not dumps."""

import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from infra import parts
from infra.backup.alarms import Alarms, Rule
from infra.backup.contents import Table, differences
from infra.backup.folder import DUMP, MANIFEST, Folder, Manifest, Verified, note_verified
from infra.backup.restoring import restore
from infra.backup.schedule import Plan, Schedule
from infra.backup.settings import BackupSettings
from infra.record_file import write
from schemas.alarms import AlarmState
from schemas.errors import Refused, Unavailable

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)


def make(folder, taken, *, database="telltale"):
    with folder.held(), folder.making(database, taken) as place:
        (place / DUMP).write_bytes(b"dump")
        manifest = Manifest(
            database=database, taken=taken, seconds=1, server="15.18", timescaledb=None, migrations=("0001",), bytes=4,
            sha256="", tables={"public.readings": Table(rows=3, checksum="7")},
        )  # fmt: skip
        write(place / MANIFEST, manifest)
    return next(each for each in folder.backups() if each.manifest.taken == taken)


class Site:
    """A schedule, its clock, and the troubles it meets."""

    def __init__(self, path):
        self.now, self.made, self.trouble, self.doubt = BEGIN, 0, None, None
        self.broker_away, self.told = False, []
        self.folder, self.path = Folder(path / "backups"), path
        self.restart()

    def restart(self):
        plan = Plan("telltale", HOUR, keep=3, verify=True)
        alarms = Alarms(self.path / "alarms.json", source="backup/telltale", tell=self.tell)
        self.schedule = Schedule(plan, self.folder, alarms, lambda: self.now, make=self.make, verify=self.verify)

    def make(self):
        if self.trouble:
            raise Unavailable(self.trouble)
        self.made += 1
        return make(self.folder, self.now)

    def verify(self, backup):
        if self.doubt:
            raise Unavailable(self.doubt)
        return note_verified(backup, Verified(at=self.now, seconds=1, server="15.18"))

    def tell(self, events):
        if self.broker_away:
            raise Unavailable("Kafka: away")
        self.told += [(event.data.rule, event.data.state) for event in events]

    def pass_time(self, time, step=timedelta(minutes=1)):
        end = self.now + time
        while self.now < end:
            self.now += step
            self.schedule.turn()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_first_backup_is_made_at_once_and_the_next_when_it_is_due(site):
    assert site.schedule.turn()
    site.pass_time(HOUR - timedelta(minutes=1))
    assert site.made == 1
    site.pass_time(timedelta(minutes=1))
    assert site.made == 2
    assert all(each.verified for each in site.folder.backups())
    assert site.told == []


def test_only_the_newest_are_kept(site):
    site.pass_time(6 * HOUR)
    assert [each.manifest.taken.hour for each in site.folder.backups()] == [5, 4, 3]


def test_the_newest_verified_backup_outlives_newer_ones_that_are_not(site):
    site.schedule.turn()
    site.doubt = "differs"
    site.pass_time(6 * HOUR)
    assert [bool(each.verified) for each in site.folder.backups()] == [False, False, False, True]


def test_failed_backup_raises_one_alarm_and_clears_it_when_one_is_made(site):
    site.schedule.turn()
    site.trouble = "no space left"
    site.pass_time(1.5 * HOUR)
    assert site.told == [(Rule.FAILED, AlarmState.RAISED)]
    site.trouble = None
    site.pass_time(HOUR)
    assert site.told[1:] == [(Rule.FAILED, AlarmState.CLEARED)]


def test_backup_that_stays_away_is_overdue_too(site):
    site.schedule.turn()
    site.trouble = "no space left"
    site.pass_time(3 * HOUR)
    assert site.told == [(Rule.FAILED, AlarmState.RAISED), (Rule.OVERDUE, AlarmState.RAISED)]
    site.trouble = None
    site.pass_time(HOUR)
    assert set(site.told[2:]) == {(Rule.FAILED, AlarmState.CLEARED), (Rule.OVERDUE, AlarmState.CLEARED)}


def test_backup_that_was_never_made_is_overdue_across_restarts(site):
    site.trouble = "nothing works"
    for _ in range(5):
        site.restart()
        site.pass_time(HOUR / 2)
    assert (Rule.OVERDUE, AlarmState.RAISED) in site.told


def test_schedule_that_was_down_says_so_and_recovers(site):
    site.schedule.turn()
    site.now += 5 * HOUR
    site.restart()
    site.schedule.turn()
    assert site.told == [(Rule.OVERDUE, AlarmState.RAISED), (Rule.OVERDUE, AlarmState.CLEARED)]


def test_unverifiable_backup_raises_an_alarm_that_the_next_process_clears(site):
    site.doubt = "public.readings has 2 rows, expected 3"
    site.schedule.turn()
    assert site.told == [(Rule.UNVERIFIABLE, AlarmState.RAISED)]
    site.restart()
    site.doubt = None
    site.pass_time(timedelta(minutes=5))
    assert site.told[1:] == [(Rule.UNVERIFIABLE, AlarmState.CLEARED)]


def test_backup_made_by_hand_clears_the_alarm(site):
    site.trouble = "no space left"
    site.schedule.turn()
    make(site.folder, site.now)
    site.pass_time(timedelta(minutes=1))
    assert (Rule.FAILED, AlarmState.CLEARED) in site.told


def test_alarm_is_told_when_the_broker_is_back_also_by_the_next_process(site):
    site.trouble, site.broker_away = "no space left", True
    site.pass_time(3 * HOUR)
    assert site.told == []
    site.restart()
    site.broker_away = False
    site.schedule.turn()
    assert site.told == [(Rule.FAILED, AlarmState.RAISED), (Rule.OVERDUE, AlarmState.RAISED)]


def test_retries_get_rarer_but_never_rarer_than_the_schedule(site):
    site.schedule.turn()
    site.trouble, tries = "no space left", []
    failing = site.schedule.make
    site.schedule.make = lambda: (tries.append(site.now), failing())[1]
    site.pass_time(12 * HOUR)
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[:4] == [timedelta(minutes=m) for m in (1, 2, 4, 8)]
    assert max(pauses) == HOUR


def test_backup_from_a_clock_that_was_wrong_does_not_hold_up_the_next(site):
    make(site.folder, BEGIN + 1000 * HOUR)
    site.schedule.turn()
    assert site.made == 1


# --- on disk ---


def test_backups_from_a_clock_that_was_wrong_push_none_out(site):
    for hours in range(4):
        site.verify(make(site.folder, BEGIN + timedelta(days=365, hours=hours)))
    for _ in range(3):
        site.schedule.turn()
    assert site.made == 1
    assert site.folder.backups()[-1].manifest.taken == BEGIN


def test_what_was_not_finished_is_no_backup_and_is_removed(tmp_path):
    folder = Folder(tmp_path)
    with suppress(KeyboardInterrupt), folder.held(), folder.making("telltale", BEGIN) as place:
        (place / DUMP).write_bytes(b"half")
        assert folder.backups() == []
        raise KeyboardInterrupt
    killed = tmp_path / "telltale-20261123T000000Z.partial"
    killed.mkdir()
    (killed / DUMP).write_bytes(b"half")
    assert folder.backups() == folder.damaged() == []
    with pytest.raises(Refused, match="never finished"):
        folder.named(killed.name)
    made = make(folder, BEGIN)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", made.name]


def test_two_backups_of_one_second_are_two(tmp_path):
    folder = Folder(tmp_path)
    first, second = make(folder, BEGIN), make(folder, BEGIN + timedelta(milliseconds=1))
    assert first.name != second.name
    assert folder.named(None) == second


def test_only_one_at_a_time(tmp_path):
    with Folder(tmp_path).held(), pytest.raises(Unavailable, match="at work"), Folder(tmp_path).held():
        pass


def test_backups_are_private(tmp_path):
    folder = Folder(tmp_path / "backups")
    made = make(folder, BEGIN)
    for path in (folder.path, made.path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_damaged_backup_is_told_and_hides_no_other(tmp_path):
    folder = Folder(tmp_path)
    good = make(folder, BEGIN)
    bad = make(folder, BEGIN + HOUR)
    (bad.path / MANIFEST).write_text("{")
    assert folder.backups() == [good]
    assert bad.name in folder.damaged()[0]


def test_differences_name_the_table():
    one = {"a": Table(rows=1, checksum="1"), "b": Table(rows=2, checksum="2"), "c": Table(rows=1, checksum="0")}
    two = {"a": Table(rows=1, checksum="9"), "b": Table(rows=3, checksum="2"), "d": Table(rows=1, checksum="0")}
    assert [line.partition(" ")[0] for line in differences(one, two)] == ["a", "b", "c", "d"]
    assert list(differences(one, one)) == []


# --- settings ---


@pytest.mark.parametrize(("said", "seconds"), [("12h", 43200), ("1d", 86400), ("90 m", 5400), ("1.5h", 5400)])
def test_schedule_is_said_as_a_person_says_it(said, seconds, monkeypatch):
    monkeypatch.setenv("TELLTALE_BACKUP_EVERY", said)
    assert BackupSettings().every == seconds


def test_schedule_is_a_part_only_where_it_is_set(monkeypatch):
    monkeypatch.delenv("TELLTALE_BACKUP_EVERY", raising=False)
    assert "backup" not in parts.chosen(None)
    monkeypatch.setenv("TELLTALE_BACKUP_EVERY", "1d")
    assert "backup" in parts.chosen(None)


@pytest.mark.parametrize("into", ["", " "])
def test_an_empty_name_to_restore_into_is_not_the_database_itself(tmp_path, into):
    folder = Folder(tmp_path)
    make(folder, BEGIN)
    with pytest.raises(Refused, match="--into: expected the name of a database"):
        restore("postgresql://nobody@127.0.0.1:1/telltale", folder.backups()[0], into=into, force=True)
