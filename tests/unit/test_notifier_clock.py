"""The notifier's turns by a clock that is wrong, is set, or differs from that of who speaks; a way with a bug."""

from datetime import UTC, datetime, timedelta

import pytest

from infra.kept_alarms import KeptAlarms
from schemas.alarms import Alarm, AlarmState, Severity, alarm_event
from sinks.notify.alarm_log import Read
from sinks.notify.config import parse
from sinks.notify.ledger import Ledger
from sinks.notify.notifier import Notifier
from sinks.notify.ways.port import Partly, Undelivered

BEGIN = datetime(2026, 11, 26, 12, tzinfo=UTC)
WAYS = "".join(f'[ways.{name}]\nkind = "webhook"\nurl = "http://localhost/x"\n' for name in ("mail", "hook"))
ONE = '[[routes]]\nname = "all"\nways = ["mail"]\nwait_s = 5\n'


def alarm(name):
    return Alarm(
        alarm_id=name, rule="device_silent", source=f"device/{name}", device_id=name, station_id="mast",
        severity=Severity.MAJOR, state=AlarmState.RAISED, reason="silent", onset=BEGIN, message="Go and look.",
    )  # fmt: skip


class Log:
    """The topic, always read to its end."""

    read_to_end = True

    def __init__(self):
        self.events = []

    def open(self, *_, **__):
        return True

    def read(self, _):
        read = Read(self.events, {0: 1} if self.events else {})
        self.events = []
        return read

    def commit(self, _): ...
    def close(self): ...


class Way:
    """Notes what it carries; throws, or is away, for as long as it is told to."""

    once = True

    def __init__(self):
        self.got, self.fails = [], None

    def carry(self, notice):
        if self.fails is not None:
            raise self.fails
        self.got += [f"{event.data.alarm_id} {event.data.state}" for event in notice.events]


class Running:
    """A notifier, turned by hand."""

    def __init__(self, folder, routes):
        self.now, self.log, self.mail, self.hook = BEGIN, Log(), Way(), Way()
        self.folder, self.config = folder, parse(WAYS + routes, where="notify.toml")
        self.start()

    def start(self):
        self.ledger = Ledger(self.folder / "ledger.db")
        kept = KeptAlarms(self.folder / "alarms.json", speaker="notify", tell=lambda _: None)
        self.notifier = Notifier(
            self.config, self.ledger, {"mail": self.mail, "hook": self.hook}, alarm_log=self.log, alarms=kept,
            inbox_folder=self.folder / "inbox", clock=lambda: self.now,
        )  # fmt: skip

    def hear(self, *alarms, clock_s=0):
        """Events of who has a clock that is so much ahead."""
        at = self.now + timedelta(seconds=clock_s)
        self.log.events = [alarm_event(each, time=at, speaker="streams") for each in alarms]
        self.turn()

    def turn(self, seconds=1.0):
        self.now += timedelta(seconds=seconds)
        for _ in range(2):  # what the first sends, the second takes note of
            self.notifier.turn(0)
            for _, sent in self.notifier._under_way.values():
                sent.exception()

    def close(self):
        self.notifier._threads.shutdown()
        self.ledger.close()


@pytest.fixture
def running(tmp_path):
    made = []

    def make(routes=ONE):
        made.append(Running(tmp_path, routes))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_who_speaks_by_a_clock_behind_ours_is_heard(running):
    """The first start is noted, so that what the log holds from before is not told event by event."""
    one = running()
    one.turn()
    one.hear(alarm("1"), clock_s=-3600)
    one.turn(10)
    assert one.mail.got == ["1 raised"]


def test_alarms_are_told_although_the_clock_is_set_back(running):
    one = running()
    one.turn()
    one.turn(-3600)
    one.hear(alarm("1"))
    one.turn(10)
    assert one.mail.got == ["1 raised"]


@pytest.mark.parametrize("between", ["turns", "runs"])
def test_what_waits_does_not_wait_for_the_clock_to_come_back(running, between):
    one = running()
    one.turn()
    one.mail.fails = Undelivered("away")
    one.hear(alarm("1"))
    one.turn(10)
    one.hear(alarm("2"))
    one.mail.fails = None
    if between == "runs":
        one.close()
        one.now -= timedelta(days=1)
        one.start()
    else:
        one.turn(-86_400)
    one.turn(1)
    one.turn(11)
    assert sorted(one.mail.got) == ["1 raised", "2 raised"]


def test_a_way_that_throws_is_tried_again_and_the_others_go_on(running):
    one = running(ONE.replace('"mail"', '"mail", "hook"'))
    one.turn()
    one.mail.fails = ValueError("a bug")
    one.hear(alarm("1"))
    one.turn(10)
    assert one.hook.got == ["1 raised"]
    one.mail.fails = None
    one.turn(10)
    assert one.mail.got == ["1 raised"]


def test_a_notice_that_one_of_several_does_not_take_is_not_carried_again_and_is_told(running):
    one = running()
    one.turn()
    one.mail.fails = Partly("takes no mail for x@example.org")
    one.hear(alarm("1"))
    one.turn(10)
    assert [(out.state, out.said) for out in one.ledger.left(5)] == [("sent", "takes no mail for x@example.org")]
    one.mail.fails = None
    one.hear(alarm("2"))
    one.turn(10)
    assert one.mail.got == ["2 raised"]
