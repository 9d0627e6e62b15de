"""`telltale watchdog`. The composition root: clocks are read and clients made here and nowhere else."""

import json
import signal
import time
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING

import click

from infra import stack
from infra.options import DATABASE, KAFKA

if TYPE_CHECKING:
    from infra.watchdog.rounds import Rounds

TELL_S_MAX = 3.0
PAUSE_S_MIN = 0.5
"""Where a look takes as long as its turn, as it does while neighbours do not answer."""
STUCK_S = 300.0
"""Beyond its pause: all probes of a look together take a minute at worst. Longer means that it hangs."""


@click.group()
def watchdog() -> None:
    """Trouble that no part can tell of itself."""


@watchdog.command()
@KAFKA
@DATABASE
def run(kafka: str | None, database: str | None) -> None:
    """Look again and again and raise alarms, until SIGTERM or Ctrl-C.

    TELLTALE_WATCHDOG_EVERY_S apart; `telltale up` runs this.
    """
    from infra import events, readiness
    from infra.telemetry.health import Check, Health
    from infra.telemetry.serving import serving
    from infra.watchdog import measured

    events.configure(service="watchdog")
    rounds = _rounds(kafka, database)
    health = Health("watchdog", stuck_s=rounds.settings.every_s + STUCK_S)
    stop = Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())

    def looked() -> Check:
        age_s = measured.LOOKED.age_s
        said = "it has not looked yet" if age_s is None else f"it looked {age_s:.1f} s ago"
        return Check(age_s is not None, said, age_s, "s")

    def well() -> Check:
        return Check(not rounds.bad, "; ".join(rounds.bad) or "nothing is amiss", len(rounds.bad), required=False)

    health.check("looked", looked)
    health.check("well", well)
    with serving(health):
        readiness.announce()
        while not stop.is_set():
            health.beat()
            began_s = time.monotonic()
            rounds.turn()
            left_s = rounds.settings.every_s - (time.monotonic() - began_s)
            stop.wait(max(left_s, PAUSE_S_MIN))


@watchdog.command()
@KAFKA
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON list.")
def look(kafka: str | None, database: str | None, as_json: bool) -> None:
    """Look once and say what was found; tell nobody. Exit code 1 if something is wrong."""
    found = _rounds(kafka, database).look()
    if as_json:
        fields = ("source", "bad", "said", "reason", "value", "limit", "unit")
        click.echo(
            json.dumps([{"rule": each.rule, **{name: getattr(each, name) for name in fields}} for each in found])
        )
    else:
        for each in found:
            click.echo(f"{'WRONG' if each.bad else 'well':<5}  {each.rule:<22} {each.source:<24} {each.said}")
    if any(each.bad for each in found):
        click.get_current_context().exit(1)


def _rounds(kafka: str | None, database: str | None) -> "Rounds":
    from infra.backup.server import database_of
    from infra.kept_alarms import KeptAlarms
    from infra.telling import tell_all
    from infra.watchdog.rounds import Rounds
    from infra.watchdog.settings import WatchdogSettings

    address, dsn, folder = stack.kafka_address(kafka), stack.database_dsn(database), stack.folder()
    return Rounds(
        address,
        dsn,
        database_of(dsn),
        folder,
        WatchdogSettings(),
        KeptAlarms(
            folder / "watchdog" / "alarms.json",
            speaker="watchdog",
            tell=lambda told: tell_all(address, told, client_id="telltale-watchdog", within_s=TELL_S_MAX),
        ),
        lambda: datetime.now(UTC),
        inbox=folder / "notify" / "inbox",
    )
