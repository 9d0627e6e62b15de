"""Who is told what, and when: time lines by a manual clock, the ledger across kills, words, mistakes in the file."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.alarms import Alarm, AlarmState, Severity, alarm_event
from schemas.errors import Refused, Unavailable
from sinks.notify import notices, words
from sinks.notify.cli import EXAMPLE
from sinks.notify.config import parse
from sinks.notify.ledger import Ledger

BEGIN = datetime(2026, 11, 26, 12, tzinfo=UTC)  # a Thursday
WAYS = """
[ways.mail]
kind = "email"
host = "localhost"
tls = "none"
sender = "a@b"
to = ["c@d"]
[ways.hook]
kind = "webhook"
url = "http://localhost/x"
"""


def alarm(name="1", state="raised", *, step=0, **changes):
    known = {
        "alarm_id": name, "rule": "device_silent", "source": f"device/{name}", "device_id": name,
        "station_id": "mast", "severity": Severity.MAJOR, "state": AlarmState(state), "reason": "silent",
        "onset": BEGIN, "message": "Go and look.", "step": step,
    }  # fmt: skip
    return Alarm(**(known | changes))


class Told:
    """A notifier's decisions on a time line: seconds in, notices out."""

    def __init__(self, routes, tmp_path):
        self.config = parse(WAYS + routes, where="notify.toml")
        self.path, self.left = tmp_path / "ledger.db", []
        self.ledger = Ledger(self.path)

    def hear(self, at_s, *alarms):
        now = BEGIN + timedelta(seconds=at_s)
        events = [alarm_event(each, time=now, speaker="test") for each in alarms]
        self.ledger.take(((e, list(notices.items(e, self.config, now=now))) for e in events), now=now)
        return self.at(at_s)

    def at(self, at_s):
        """What leaves at that second: (way, [alarm/state])."""
        now, latest = BEGIN + timedelta(seconds=at_s), self.ledger.standing()
        standing = {event.data.alarm_id: event.data for event in latest}
        due = notices.due(self.ledger.waiting(), standing, self.config, told=self.ledger.told(), now=now)
        again = notices.repeats(self.ledger.last_told(), latest, self.config, now=now)
        self.ledger.make(due, again, now=now)
        return [
            (n.way, [f"{e.data.alarm_id} {e.data.state}" for e in n.events], *(["again"] if n.repeat else []))
            for n in (*due.notices, *again)
        ]


@pytest.fixture
def told(tmp_path):
    made = []

    def make(routes):
        made.append(Told(routes, tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.ledger.close()


ONE = '[[routes]]\nname = "all"\nways = ["mail"]\nwait_s = 10\n'


def test_alarms_of_a_station_wait_for_each_other_and_leave_once(told):
    line = told(ONE)
    assert line.hear(0, alarm("1")) == []
    assert line.hear(5, alarm("2")) == []
    assert line.at(10) == [("mail", ["1 raised", "2 raised"])]
    assert line.hear(20, alarm("1")) == []  # read again


def test_the_end_is_told_to_those_who_heard_the_beginning(told):
    line = told(ONE)
    line.hear(0, alarm("1"))
    line.at(10)
    line.hear(30, alarm("1", "cleared", step=1))
    assert line.at(40) == [("mail", ["1 cleared"])]


def test_end_of_what_was_never_told_is_not_told(told):
    line = told(ONE.replace("wait_s", 'severity = "critical"\nwait_s'))
    line.hear(0, alarm("1"))
    line.hear(1, alarm("2", "cleared", severity=Severity.CRITICAL, step=3))
    assert line.at(60) == []


def test_replayed_events_are_for_nobody(told):
    line = told(ONE)
    line.hear(0, alarm("1", replayed=True))
    assert line.at(60) == []


def test_an_alarm_whose_cause_was_found_meanwhile_is_not_told(told):
    line = told(ONE)
    line.hear(0, alarm("1"))
    line.hear(2, alarm("1", "suppressed", step=1))
    assert line.at(60) == []
    line.hear(70, alarm("1", "raised", step=2))  # the cause is gone, the alarm is not
    assert line.at(80) == [("mail", ["1 raised"])]


def test_a_way_named_by_two_routes_hears_once(told):
    line = told(ONE + ONE.replace("all", "more"))
    line.hear(0, alarm("1"))
    assert line.at(60) == [("mail", ["1 raised"])]


def test_told_again_until_somebody_takes_notice(told):
    line = told(ONE + "repeat_s = 100\n")
    line.hear(0, alarm("1"))
    assert line.at(10) == [("mail", ["1 raised"])]
    assert line.at(109) == []
    assert line.at(110) == [("mail", ["1 raised"], "again")]
    assert line.at(115) == []
    line.hear(120, alarm("1", "acknowledged", step=1))
    assert line.at(500) == []


INHIBIT = """
[[inhibit]]
cause = { rules = ["station_silent"] }
hides = { rules = ["device_silent"] }
"""


def test_hidden_alarms_wait_for_the_end_of_their_cause(told):
    line = told(ONE + INHIBIT)
    line.hear(0, alarm("0", rule="station_silent"), alarm("1"), alarm("2"))
    assert line.at(10) == [("mail", ["0 raised"])]
    line.hear(20, alarm("1", "cleared", step=1))
    told_now = line.hear(30, alarm("0", "cleared", step=1, rule="station_silent"))
    assert told_now == [("mail", ["2 raised", "0 cleared"])]
    line.hear(50, alarm("2", "cleared", step=1))
    assert line.at(60) == [("mail", ["2 cleared"])]


def test_cause_at_another_station_hides_nothing(told):
    line = told(ONE + INHIBIT)
    line.hear(0, alarm("0", rule="station_silent", station_id="other"), alarm("1"))
    assert sorted(line.at(10)) == [("mail", ["0 raised"]), ("mail", ["1 raised"])]


def test_quiet_hours_hold_what_is_mild_and_let_through_what_is_not(told):
    quiet = 'quiet = { from = "22:00", to = "06:00", zone = "Europe/Berlin", holds = "major" }\n'
    line = told(ONE + quiet)
    night = 11 * 3600  # 23:00 UTC
    line.hear(night, alarm("1"), alarm("2", severity=Severity.CRITICAL))
    assert line.at(night + 10) == [("mail", ["2 raised"])]
    assert line.at(night + 5.9 * 3600) == []  # 05:54 in Berlin
    assert line.at(night + 6.1 * 3600) == [("mail", ["1 raised"])]


def test_alarms_about_a_way_go_by_another(told):
    line = told(ONE)
    event = alarm_event(alarm("1"), time=BEGIN, speaker="notify")
    assert [i.way for i in notices.items(event, line.config, now=BEGIN, avoid="mail")] == ["hook"]


@pytest.mark.parametrize(("once", "tries"), [(True, 5), (False, 2)], ids=["knows a repeat", "knows none"])
def test_a_try_cut_short_by_a_kill_is_made_again_within_bounds(told, once, tries):
    line = told(ONE)
    line.hear(0, alarm("1"))
    line.at(10)
    made = 0
    for _ in range(5):
        if out := line.ledger.outgoing():
            line.ledger.sending(out[0].notice)
            made += 1
        line.ledger.close()  # killed
        line.ledger = Ledger(line.path)
        line.ledger.resume({"mail": once})
    assert made == tries
    assert line.ledger.left(1)[0].state == ("ready" if once else "doubtful")


def test_two_notifiers_do_not_share_a_ledger(told):
    line = told(ONE)
    with pytest.raises(Unavailable, match="in use"):
        Ledger(line.path)


def test_words_tell_what_where_since_when_and_what_to_do():
    event = alarm_event(alarm("1", value=63.2, limit=60, unit="s"), time=BEGIN + timedelta(seconds=2), speaker="x")
    notice = notices.Notice("n", "mail", "all", "mast", (event,))
    assert words.subject(notice) == "[telltale] MAJOR raised: device_silent device/1"
    said = words.text(notice, dashboard="https://t.example.org/")
    for part in ("Go and look.", "2026-11-26 12:00:00 UTC", "63.2 s (limit 60 s)", "https://t.example.org/alarms"):
        assert part in said


def test_a_flood_in_one_notice_is_counted():
    events = tuple(alarm_event(alarm(str(n)), time=BEGIN, speaker="x") for n in range(300))
    notice = notices.Notice("n", "mail", "all", "mast", events)
    assert words.subject(notice) == "[telltale] MAJOR mast: 300 standing"
    assert "and 100 more" in words.text(notice, dashboard=None)


def test_the_example_is_read():
    config = parse(EXAMPLE, where="example")
    assert list(config.ways) == ["office", "chat", "siren"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WAYS, "routes"),
        (WAYS + ONE.replace('"mail"', '"post"'), 'no way is called "post"; there are: mail, hook'),
        (WAYS + ONE + 'severity = "bad"\n', "routes.0.severity"),
        (WAYS + ONE + "colour = 1\n", "routes.0.colour"),
        (WAYS.replace('"localhost"', '"mail.example.org"', 1) + ONE, 'tls = "none" is for a mail server on this mac'),
        (WAYS.replace("http://", "ftp://") + ONE, "must begin with http"),
        (WAYS + ONE + 'quiet = { from = "22:00", to = "06:00", zone = "Berlin" }\n', 'no time zone "Berlin"'),
        ("[ways", "is no TOML"),
    ],
)
def test_mistakes_in_the_file_are_told_with_their_place(text, said):
    with pytest.raises(Refused) as refused:
        parse(text, where="notify.toml")
    assert said in str(refused.value)
    assert "notify.toml" in str(refused.value)
