"""Who is told what, and when: time lines by a manual clock, the ledger across kills, words, mistakes in the file."""

import os
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
from aiosmtpd.controller import Controller

from infra import ports
from schemas.alarms import Alarm, AlarmState, Severity, alarm_event
from schemas.errors import Refused, Unavailable
from sinks.notify import config, notices, words
from sinks.notify.cli import EXAMPLE
from sinks.notify.config import Command, Email, Webhook, parse
from sinks.notify.ledger import Ledger
from sinks.notify.ways.command import Program
from sinks.notify.ways.email import Mail
from sinks.notify.ways.port import Partly, Undelivered
from sinks.notify.ways.webhook import Hook

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


def test_an_event_that_comes_late_does_not_turn_back_what_somebody_did(told):
    """A service's own event comes by Kafka, past it by a file, and beside the dashboard's of the same step."""
    line = told(ONE)
    raised = alarm_event(alarm("1"), time=BEGIN, speaker="watchdog")
    seen = alarm_event(alarm("1", "acknowledged"), time=BEGIN + timedelta(seconds=1), speaker="watchdog")
    line.ledger.learn([seen, raised], positions={}, now=BEGIN)
    assert line.ledger.standing() == [seen]


def test_positions_are_of_one_topic_and_not_of_one_that_was_made_again(told):
    line = told(ONE)
    line.ledger.take([], positions={0: 7}, now=BEGIN)  # by a version that did not ask whose they are
    assert line.ledger.positions("first") == {0: 7}
    line.ledger.take([], positions={0: 9}, now=BEGIN)
    assert line.ledger.positions("first") == {0: 9}
    assert line.ledger.positions("second") == line.ledger.positions("second") == {}


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


@pytest.mark.parametrize(
    "source", ["device/x\nBcc: eve@example.org", "device/\x1b[2J\r", "device/a\0b", "device/\u2028"]
)
def test_what_a_device_calls_itself_breaks_no_mail_and_no_program(tmp_path, source):
    event = alarm_event(alarm(source=source, message=f"{source} is not known."), time=BEGIN, speaker="x")
    notice = notices.Notice("n", "mail", "all", source, (event,))
    mail = Mail(parse(WAYS + ONE, where="here").ways["mail"], dashboard=None)._message(notice)
    assert (mail["Bcc"], len(mail["Subject"].splitlines())) == (None, 1)
    heard = tmp_path / "heard"
    command = ["/bin/sh", "-c", 'printf %s "$TELLTALE_NOTICE_SUBJECT" > "$0"', str(heard)]
    Program(Command(kind="command", command=command)).carry(notice)
    assert heard.read_text() == mail["Subject"]


def test_a_way_that_cannot_be_used_as_it_is_configured_is_told_and_ends_nothing(tmp_path):
    notice = notices.Notice("n", "mail", "all", "mast", (alarm_event(alarm(), time=BEGIN, speaker="x"),))
    missing = tmp_path / "ca.pem"
    hook = Webhook(kind="webhook", url="https://127.0.0.1:1/x", ca_file=missing)
    with pytest.raises(Undelivered, match="No such file"):
        Hook(hook, clock=lambda: BEGIN).carry(notice)
    mail = Email(kind="email", host="127.0.0.1", port=1, ca_file=missing, tls="implicit", sender="a@b", to=["c@d"])
    with pytest.raises(Undelivered, match="No such file"):
        Mail(mail, dashboard=None).carry(notice)


@pytest.fixture
def post_office():
    """A mail server that says to each address and at each leave what it is told to; who got how many mails."""

    class Box:
        def __init__(self):
            self.says, self.leave, self.got = {}, "221 bye", Counter()

        async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802 - aiosmtpd's name
            said = self.says.get(address, "250 OK")
            if said.startswith("250"):
                envelope.rcpt_tos.append(address)
            return said

        async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
            self.got.update(envelope.rcpt_tos)
            return "250 OK"

        async def handle_QUIT(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
            return self.leave

    box = Box()
    controller = Controller(box, hostname="127.0.0.1", port=ports.free(), ready_timeout=60, server_hostname="localhost")
    controller.start()
    way = Email(
        kind="email", host="127.0.0.1", port=controller.port, tls="none", sender="a@b",
        to=["Ops <ops@example.org>", "chief@example.org"],
    )  # fmt: skip
    box.mail = Mail(way, dashboard=None)
    yield box
    controller.stop()


def a_notice(name="n"):
    return notices.Notice(name, "mail", "all", "mast", (alarm_event(alarm(), time=BEGIN, speaker="x"),))


def test_a_mail_that_was_taken_is_not_sent_again_for_how_the_server_says_good_bye(post_office):
    post_office.leave = "421 closing"
    post_office.mail.carry(a_notice())
    assert post_office.got == {"ops@example.org": 1, "chief@example.org": 1}


def test_who_has_a_mail_does_not_get_it_again_for_who_is_refused(post_office):
    post_office.says["chief@example.org"] = "452 mailbox full"
    for _ in range(2):
        with pytest.raises(Undelivered, match=r"takes no mail for chief@example\.org: 452") as refused:
            post_office.mail.carry(a_notice())
        assert not isinstance(refused.value, Partly)
    assert post_office.got == {"ops@example.org": 1}
    post_office.says.clear()
    post_office.mail.carry(a_notice())
    assert post_office.got == {"ops@example.org": 1, "chief@example.org": 1}


def test_a_server_that_leaves_at_one_address_has_taken_the_mail_of_nobody(post_office):
    post_office.says["chief@example.org"] = "421 too busy"
    with pytest.raises(Undelivered, match=r"takes no mail for chief@example\.org: 421"):
        post_office.mail.carry(a_notice())
    assert not post_office.got
    post_office.says.clear()
    post_office.mail.carry(a_notice())
    assert post_office.got == {"ops@example.org": 1, "chief@example.org": 1}


def test_an_address_that_does_not_exist_is_told_once_and_nobody_hears_twice(post_office):
    post_office.says["chief@example.org"] = "550 no such user"
    with pytest.raises(Partly, match=r"takes no mail for chief@example\.org: 550"):
        post_office.mail.carry(a_notice())
    post_office.says["ops@example.org"] = "550 no such user"
    with pytest.raises(Undelivered) as nobody:
        post_office.mail.carry(a_notice("another"))
    assert not isinstance(nobody.value, Partly)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 503 No\r\n\r\n"])
def test_a_receiver_that_answers_byte_by_byte_is_left_in_time(answer):
    done = Event()

    def trickle(server):
        line, _ = server.accept()
        with line, suppress(OSError):
            line.recv(65_536)
            line.sendall(answer)
            while not done.wait(0.05):
                line.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(60)
        pool.submit(trickle, server)
        way = Webhook(kind="webhook", url=f"http://127.0.0.1:{server.getsockname()[1]}/x", timeout_s=1)
        try:
            with pytest.raises(Undelivered, match="no whole answer within 1 s"):
                Hook(way, clock=lambda: BEGIN).carry(a_notice())
        finally:
            done.set()


def test_a_program_that_leaves_something_running_has_ended():
    way = Command(kind="command", command=["/bin/sh", "-c", "sleep 60 & echo $! >&2; exit 3"], timeout_s=30)
    with pytest.raises(Undelivered, match=r"ended with 3: \d+") as said:
        Program(way).carry(a_notice())
    os.kill(int(str(said.value).rpartition(" ")[2]), signal.SIGKILL)


def test_a_flood_in_one_notice_is_counted():
    events = tuple(alarm_event(alarm(str(n)), time=BEGIN, speaker="x") for n in range(300))
    notice = notices.Notice("n", "mail", "all", "mast", events)
    assert words.subject(notice) == "[telltale] MAJOR mast: 300 standing"
    assert "and 100 more" in words.text(notice, dashboard=None)


def test_the_example_is_read():
    config = parse(EXAMPLE, where="example")
    assert list(config.ways) == ["office", "chat", "siren"]


def test_a_file_that_an_editor_saved_as_latin_1_is_told(tmp_path):
    place = tmp_path / "notify.toml"
    place.write_bytes("# Müller is on call".encode("latin-1"))
    with pytest.raises(Refused, match=r"notify\.toml is no UTF-8 at its byte 4"):
        config.read(place)
    with pytest.raises(Refused, match="cannot be read: it is no UTF-8"):
        config.Secret(file=place).read()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WAYS, "routes"),
        (WAYS + ONE.replace('"mail"', '"post"'), 'no way is called "post"; there are: mail, hook'),
        (WAYS + ONE + 'severity = "bad"\n', "routes.0.severity"),
        (WAYS + ONE + "colour = 1\n", "routes.0.colour"),
        (WAYS.replace('"localhost"', '"mail.example.org"', 1) + ONE, 'tls = "none" is for a mail server on this mac'),
        (WAYS.replace("http://", "ftp://") + ONE, "must begin with http"),
        (WAYS.replace("http://localhost", "http://localhost:none") + ONE, "must be an address such as"),
        (WAYS.replace("http://localhost", "http://[::1") + ONE, "must be an address such as"),
        (WAYS + ONE + 'quiet = { from = "22:00", to = "06:00", zone = "Berlin" }\n', 'no time zone "Berlin"'),
        ("[ways", "is no TOML"),
    ],
)
def test_mistakes_in_the_file_are_told_with_their_place(text, said):
    with pytest.raises(Refused) as refused:
        parse(text, where="notify.toml")
    assert said in str(refused.value)
    assert "notify.toml" in str(refused.value)
