"""`telltale notify`. The composition root: clocks are read and clients made here and nowhere else."""

import json
import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from infra import stack
from infra.counted import counted
from infra.options import AS_JSON, KAFKA
from schemas.errors import Refused

if TYPE_CHECKING:
    from sinks.notify.config import Command, Config, Email, Webhook
    from sinks.notify.ledger import Outgoing
    from sinks.notify.ways.port import Carrier

CONFIG_VARIABLE = "TELLTALE_NOTIFY_CONFIG"
CONFIG = click.option(
    "-c", "--config", metavar="FILE", help=f"Ways and routes; by default {CONFIG_VARIABLE}, else notify.toml here."
)
FOLDER = click.option("--folder", metavar="DIR", help="Its memory; by default notify/ in the stack's folder.")
TELL_S_MAX = 2.0
SHOWN = 20
STUCK_S = 120.0
"""A loop that has not turned for so long hangs: its longest turn asks a broker that is away, for some ten seconds."""

EXAMPLE = """\
# Ways out of the house. Secrets stand in files or environment variables, never here.
[ways.office]
kind = "email"
host = "smtp.example.org"
port = 587
tls = "starttls"                  # or "implicit"; "none" only for a mail server on this machine
user = "telltale"
password = { file = "/etc/telltale/smtp-password" }
sender = "telltale@example.org"
to = ["ops@example.org"]

[ways.chat]
kind = "webhook"                  # a CloudEvents JSON batch, signed as Standard Webhooks does
url = "https://chat.example.org/hooks/telltale"
secret = { env = "TELLTALE_CHAT_SECRET" }

[ways.siren]
kind = "command"                  # gets the batch on standard input
command = ["/usr/local/bin/siren", "--short"]

# Every route that takes an alarm tells it; a way hears of an event once.
[[routes]]
name = "everything"
ways = ["chat"]
group_by = ["station"]            # alarms of one station share a message
wait_s = 10                       # how long the first waits for others

[[routes]]
name = "serious"
ways = ["office", "siren"]
severity = "major"                # and worse
repeat_s = 14400                  # again every four hours until somebody acknowledges
quiet = { from = "22:00", to = "06:00", zone = "Europe/Berlin", holds = "major" }   # critical ones go through

# While the broker is away, nobody needs to hear that the stage is behind.
[[inhibit]]
cause = { rules = ["broker_unreachable"] }
hides = { rules = ["stage_behind", "no_progress"] }
equal = []
"""


@click.group()
def notify() -> None:
    """Alarms to people: e-mail, webhook, command."""


def _config(named: str | None) -> "Config":
    from sinks.notify.config import read

    return read(Path(named or os.environ.get(CONFIG_VARIABLE) or "notify.toml"))


def _ledger_path(named: str | None) -> Path:
    return (Path(named) if named else stack.folder() / "notify") / "ledger.db"


def _carriers(config: "Config") -> "Mapping[str, Carrier]":
    from sinks.notify.config import Command, Email
    from sinks.notify.ways.command import Program
    from sinks.notify.ways.email import Mail
    from sinks.notify.ways.webhook import Hook

    carriers: dict[str, Carrier] = {}
    for name, way in config.ways.items():
        if isinstance(way, Email):
            carriers[name] = Mail(way, dashboard=config.dashboard)
        elif isinstance(way, Command):
            carriers[name] = Program(way)
        else:
            carriers[name] = Hook(way, clock=now)
    return carriers


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@notify.command()
@KAFKA
@CONFIG
@FOLDER
@click.option("--verbose", is_flag=True, help="Log what is done, not only what is amiss.")
def run(kafka: str | None, config: str | None, folder: str | None, verbose: bool) -> None:
    """Tell people of alarms, until SIGTERM or Ctrl-C. One per folder."""
    from infra import events, readiness
    from infra.kept_alarms import KeptAlarms
    from infra.telemetry import probing
    from infra.telemetry.health import Check, Health
    from infra.telemetry.serving import serving
    from infra.telling import tell_all
    from sinks.notify.alarm_log import AlarmLog
    from sinks.notify.ledger import Ledger
    from sinks.notify.notifier import Notifier

    read, address, path = _config(config), stack.kafka_address(kafka), _ledger_path(folder)
    events.configure("debug" if verbose else "info", service="notify")
    health = Health("notify", stuck_s=STUCK_S)
    stop = Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    ledger = Ledger(path)
    try:
        kept = KeptAlarms(
            path.with_name("alarms.json"),
            speaker="notify",
            tell=lambda told: tell_all(address, told, client_id="telltale-notify", within_s=TELL_S_MAX),
        )
        notifier = Notifier(
            read,
            ledger,
            _carriers(read),
            alarm_log=AlarmLog(address),
            alarms=kept,
            inbox_folder=path.with_name("inbox"),
            clock=now,
            beat=health.beat,
        )

        def delivered() -> Check:
            left = notifier.undelivered
            said = f"{counted(left, 'notice')} not sent, {counted(notifier.waiting, 'event')} waiting"
            return Check(not left, said, left, required=False)

        health.check("delivered", delivered)
        with serving(health, probes={"broker": probing.broker(address)}):
            readiness.announce()
            notifier.run(stop)
    finally:
        ledger.close()


@notify.command()
@CONFIG
@click.option("--way", "ways", multiple=True, metavar="NAME", help="Only this one; may come several times.")
@AS_JSON
def test(config: str | None, ways: tuple[str, ...], as_json: bool) -> None:
    """Send a test message by every way, and say what came of it. Exit code 1 if one did not arrive."""
    from sinks.notify.ways.port import Undelivered

    carriers = _carriers(_config(config))
    if unknown := [way for way in ways if way not in carriers]:
        raise Refused(f'no way is called "{unknown[0]}"; there are: {", ".join(carriers)}')
    outcome: dict[str, str | None] = {}
    for name in ways or carriers:
        try:
            carriers[name].carry(_trial(name))
        except Undelivered as error:
            outcome[name] = str(error)
        else:
            outcome[name] = None
        if not as_json:
            click.echo(f"{name}: {outcome[name] or 'delivered'}")
    if as_json:
        click.echo(json.dumps({name: {"delivered": said is None, "said": said} for name, said in outcome.items()}))
    if any(outcome.values()):
        click.get_current_context().exit(1)


def _trial(way: str) -> Any:
    from schemas.alarms import Alarm, AlarmState, Severity, alarm_event
    from sinks.notify.notices import Notice

    at = now()
    alarm = Alarm(
        alarm_id="test",
        rule="notify_test",
        source=f"notify/{way}",
        device_id=None,
        station_id=None,
        severity=Severity.WARNING,
        state=AlarmState.RAISED,
        reason="test",
        onset=at,
        message="This is a test of `telltale notify test`: nothing is wrong, and nothing is to be done.",
    )
    return Notice(f"test-{at:%Y%m%dT%H%M%S%f}", way, "test", "test", (alarm_event(alarm, time=at, speaker="notify"),))


@notify.command()
@CONFIG
@AS_JSON
def check(config: str | None, as_json: bool) -> None:
    """Read the file and say what would be told to whom. Sends nothing."""
    read = _config(config)
    if as_json:
        click.echo(read.model_dump_json(by_alias=True))
        return
    for name, way in read.ways.items():
        click.echo(f"way {name}: {way.kind} to {_target(way)}")
    for route in read.routes:
        which = f"{route.severity.value} and worse" if route.severity else "all severities"
        click.echo(f"route {route.name}: {which}, {', '.join(route.states)} -> {', '.join(route.ways)}")


@notify.command()
@FOLDER
@AS_JSON
def status(folder: str | None, as_json: bool) -> None:
    """What waits, what could not be delivered, what was sent of late."""
    from sinks.notify.ledger import Ledger
    from sinks.notify.words import subject

    ledger = Ledger(_ledger_path(folder), look=True)
    try:
        waiting, outgoing, left = ledger.waiting(), ledger.outgoing(), ledger.left(SHOWN)
    finally:
        ledger.close()
    if as_json:
        click.echo(
            json.dumps(
                {
                    "waiting": len(waiting),
                    "undelivered": [_told(o) for o in outgoing],
                    "latest": [_told(o) for o in left],
                }
            )
        )
        return
    click.echo(
        f"{counted(len(waiting), 'alarm event')} waiting to be told, {counted(len(outgoing), 'notice')} not sent"
    )
    for out in left:
        click.echo(
            f"{out.made:%Y-%m-%d %H:%M:%S}  {out.state:<8}  {out.notice.way:<12}  {subject(out.notice)}"
            + (f"  ({counted(out.tries, 'try', 'tries')}: {out.said})" if out.said else "")
        )


def _told(out: "Outgoing") -> dict[str, Any]:
    from sinks.notify.words import subject

    return {
        "notice": out.notice.notice_id,
        "way": out.notice.way,
        "state": out.state,
        "subject": subject(out.notice),
        "alarms": len(out.notice.events),
        "tries": out.tries,
        "made": out.made.isoformat(),
        "failing_since": out.failing_since and out.failing_since.isoformat(),
        "said": out.said,
    }


def _target(way: "Email | Webhook | Command") -> str:
    if way.kind == "email":
        return ", ".join(way.to)
    return way.url.split("?")[0] if way.kind == "webhook" else way.command[0]


@notify.command()
def example() -> None:
    """Print a notify.toml to begin with."""
    click.echo(EXAMPLE, nl=False)
