"""`telltale readings`, `alarms`, `rejected`: a look into the database and the live topics from the shell."""

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from infra import stack
from infra.counted import counted
from infra.database import connected
from infra.options import AS_JSON, DATABASE, KAFKA
from infra.printable import printable
from schemas.errors import Refused

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 100


def _selecting(command: F) -> F:
    """Options that say which readings."""
    for option in (
        DATABASE,
        click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object; of readings, one a line."),
        click.option("--quality", "flags", metavar="FLAGS", help="Such as good,suspect or 1,3."),
        click.option("--to", "end", metavar="TIME", help="Before this time."),
        click.option("--from", "begin", metavar="TIME", help="From this time on, UTC where no zone is given."),
        click.option("--station", metavar="ID", help="Devices of this station."),
        click.option("--device", metavar="ID", help="Sensors of this device."),
        click.option("--sensor", metavar="[DEVICE/]CHANNEL", help="This sensor."),
    ):
        command = option(command)
    return command


@click.group()
def readings() -> None:
    """Stored readings: count and show."""


@readings.command()
@_selecting
def count(*, database: str | None, as_json: bool, **chosen: str | None) -> None:
    """How many readings of each sensor are stored."""
    from dashboard import readings as stored

    selection = stored.selection(**chosen)
    with connected(stack.database_dsn(database)) as connection:
        counts = stored.count(connection, selection)
    total = sum(counts.values())
    if as_json:
        click.echo(json.dumps({"total": total, "sensors": counts}))
        return
    width = max([len(name) for name in counts] + [len("total")])
    for name, number in counts.items():
        click.echo(printable(f"{name:<{width}}  {number:>12,}"))
    click.echo(f"{'total':<{width}}  {total:>12,}")


@readings.command()
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help=f"So many rows; {SHOWN} unless --json.")
@_selecting
def show(*, limit: int | None, database: str | None, as_json: bool, **chosen: str | None) -> None:
    """Readings in order of time: logged and calibrated, flag, tests.

    \b
    telltale readings show --sensor mast-7/Spd80 --from 2024-05-01 --to 2024-05-02
    telltale readings show --device mast-7 --quality suspect,fail --limit 20
    """
    from dashboard import readings as stored
    from schemas.quality import Flag

    selection = stored.selection(**chosen)
    bound = limit or (None if as_json else SHOWN)
    names = {flag.value: flag.name.lower() for flag in Flag}
    shown = 0
    with connected(stack.database_dsn(database)) as connection:
        for row in stored.show(connection, selection, limit=bound):
            shown += 1
            if as_json:
                numbers = {name: _number(row[name]) for name in ("logged", "value")}
                click.echo(json.dumps(row | numbers | {"time": row["time"].isoformat()}))
                continue
            flag = names.get(row["flag"], str(row["flag"]))
            line = (
                f"{row['time']:%Y-%m-%d %H:%M:%S.%f}Z  {row['sensor']:<24}  {row['logged']:>14.6g}  "
                f"{row['value']:>14.6g}  {flag:<13}  {','.join(row['tests'])}"
            )
            click.echo(printable(line).rstrip())
    if not limit and shown == bound:
        click.echo(f"the first {shown}; more with --limit", err=True)


def _number(value: float) -> float | None:
    """As JSON has it, which knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None


@click.group()
def alarms() -> None:
    """Alarms: those that stand, events as they come, and what to do about them."""


@alarms.command()
@KAFKA
@click.option("--from-beginning", is_flag=True, help="Begin with all that the topic still holds, in order of time.")
@click.option(
    "--follow/--no-follow", default=True, show_default=True, help="Wait for more, until Ctrl-C, or stop at the end."
)
@click.option("--json", "as_json", is_flag=True, help="For scripts: one CloudEvent a line, as it stands in the topic.")
def tail(kafka: str | None, from_beginning: bool, follow: bool, as_json: bool) -> None:
    """Show alarms as they are raised and cleared."""
    from dashboard.alarms import tail as events

    seen = 0
    for event in events(stack.kafka_address(kafka), from_beginning=from_beginning, follow=follow):
        seen += 1
        if as_json:
            print(event.model_dump_json(), flush=True)
            continue
        alarm = event.data
        state = click.style(f"{alarm.state:<12}", fg=_COLOURS.get(alarm.state, "yellow"), bold=True)
        replayed = " (replayed)" if alarm.replayed else ""
        click.echo(
            f"{event.time:%Y-%m-%d %H:%M:%S} {state} {alarm.severity:<8} "
            + printable(f"{alarm.source}: {alarm.message}{replayed}")
        )
    if not seen and not as_json:
        click.echo(
            "no alarm was raised" if from_beginning else "no alarm; --from-beginning shows those of before", err=True
        )


_COLOURS = {"raised": "red", "cleared": "green"}


@alarms.command("list")
@KAFKA
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line, worst first.")
def list_standing(kafka: str | None, as_json: bool) -> None:
    """Alarms that stand, worst first.

    They are raised, acknowledged, latched, shelved or suppressed.
    """
    from dashboard.acting import standing

    found = standing(stack.kafka_address(kafka))
    for event in found:
        alarm = event.data
        if as_json:
            click.echo(alarm.model_dump_json())
            continue
        state = click.style(f"{alarm.state:<12}", fg=_COLOURS.get(alarm.state, "yellow"), bold=True)
        shelf = f" (until {alarm.until:%Y-%m-%d %H:%M} UTC)" if alarm.until else ""
        by = f" [{alarm.who}{': ' + alarm.why if alarm.why else ''}]" if alarm.who else ""
        click.echo(
            f"{alarm.alarm_id}  {state} {alarm.severity:<8} {alarm.onset:%Y-%m-%d %H:%M:%S}  "
            + printable(f"{alarm.source}: {alarm.message}{shelf}{by}")
        )
    if not found and not as_json:
        click.echo("no alarm stands", err=True)


def _acting(command: F) -> F:
    """What all actions take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="For scripts: what came of it, as one JSON object."),
        KAFKA,
        click.option("--reason", metavar="TEXT", default="", help="Kept with the alarm, for those who come after."),
        click.argument("alarm_id"),
    ):
        command = option(command)
    return command


@alarms.command()
@_acting
def acknowledge(*, alarm_id: str, reason: str, kafka: str | None, as_json: bool) -> None:
    """Say that somebody looks after an alarm. A latched one ends; missing frames are given up.

    ALARM_ID is an alarm's id or its beginning (`telltale alarms list`).
    """
    _act("acknowledge", alarm_id, reason=reason, kafka=kafka, as_json=as_json)


@alarms.command()
@click.option("--for", "length", metavar="LENGTH", required=True, help="Such as 30m, 8h or 2d.")
@_acting
def shelve(*, alarm_id: str, length: str, reason: str, kafka: str | None, as_json: bool) -> None:
    """Keep an alarm quiet for a time, come what may. If it still stands then, it is raised again.

    ALARM_ID is an alarm's id or its beginning (`telltale alarms list`).
    """
    _act("shelve", alarm_id, reason=reason, kafka=kafka, as_json=as_json, length=length)


@alarms.command()
@_acting
def unshelve(*, alarm_id: str, reason: str, kafka: str | None, as_json: bool) -> None:
    """Take an alarm off the shelf before its time.

    ALARM_ID is an alarm's id or its beginning (`telltale alarms list`).
    """
    _act("unshelve", alarm_id, reason=reason, kafka=kafka, as_json=as_json)


@alarms.command()
@_acting
def comment(*, alarm_id: str, reason: str, kafka: str | None, as_json: bool) -> None:
    """Add a word (--reason) to an alarm that stands.

    ALARM_ID is an alarm's id or its beginning (`telltale alarms list`).
    """
    if not reason:
        raise click.UsageError("say it with --reason TEXT")
    _act("comment", alarm_id, reason=reason, kafka=kafka, as_json=as_json)


def _act(
    action: str, alarm_id: str, *, reason: str, kafka: str | None, as_json: bool, length: str | None = None
) -> None:
    from dashboard.acting import act, shelf_end
    from schemas.alarms import Action

    until = shelf_end(length) if length else None
    answer = act(stack.kafka_address(kafka), alarm_id, Action(action), reason=reason, until=until)
    if as_json:
        click.echo(answer.model_dump_json())
    elif answer.reason is None:
        click.echo(answer.message)
    if answer.reason is not None:
        raise Refused(f"{answer.reason}: {answer.message}")


@click.group()
def rejected() -> None:
    """What could not be taken, and why: list it, look into it, send it again."""


@rejected.command("list")
@KAFKA
@click.option("--reason", metavar="WORD", help="Only of this reason, such as unknown_device.")
@click.option("--device", metavar="ID", help="Only of this device.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
def list_rejected(kafka: str | None, reason: str | None, device: str | None, as_json: bool) -> None:
    """What was rejected: its name, when, why, and where it lay."""
    from dashboard.rejected import rejected as found
    from schemas.codec import Codec

    count = 0
    for each in found(stack.kafka_address(kafka), Codec(), reason=reason, device=device):
        count += 1
        if as_json:
            click.echo(json.dumps(each.told()))
            continue
        record = each.record
        where = f"{record.topic}/{record.partition}@{record.offset}"
        readings = "reading " if record.rows == 1 else "readings"
        click.echo(
            f"{each.name:<10} {record.time:%Y-%m-%d %H:%M:%S}  {record.reason:<20} "
            + printable(f"{record.device_id or '-':<20} {record.rows:>7} {readings}  {where}  {record.detail}")
        )
    if not count and not as_json:
        click.echo("nothing was rejected" + (" that fits" if reason or device else ""), err=True)


@rejected.command("show")
@KAFKA
@click.argument("name", metavar="PARTITION/OFFSET")
def show_rejected(kafka: str | None, name: str) -> None:
    """One rejected record with what is in it, as JSON."""
    from dashboard.rejected import find, frame_of
    from schemas.codec import Codec

    codec = Codec()
    (found,) = find(stack.kafka_address(kafka), codec, [name])
    told = found.told()
    try:
        frame = frame_of(found, codec)
    except Refused:
        told["payload"] = found.record.payload.hex()
    else:
        rows = [[_number(cell) for cell in row] for row in frame.values.tolist()]
        told["frame"] = {
            "spool_id": frame.spool_id,
            "sequence": frame.sequence,
            "channels": list(frame.channels),
            "times": frame.times.tolist(),
            "values": rows,
        }
    click.echo(json.dumps(told, indent=2))


@rejected.command()
@KAFKA
@click.argument("names", metavar="PARTITION/OFFSET...", nargs=-1)
@click.option("--reason", metavar="WORD", help="All of this reason.")
@click.option("--device", metavar="ID", help="All of this device.")
@click.option("--vouch", is_flag=True, help="Also what was rejected as forged: you know that it is the device's own.")
@AS_JSON
def retry(
    *, kafka: str | None, names: tuple[str, ...], reason: str | None, device: str | None, vouch: bool, as_json: bool
) -> None:
    """Send frames again, after the reason is gone.

    A device was configured, a limit changed, a bug mended. What is sent again twice is stored once.

    \b
    telltale rejected retry --device pi-1 --reason unknown_device
    telltale rejected retry 3/1207
    """
    from dashboard import rejected as store
    from schemas.codec import Codec

    if bool(names) == bool(reason or device):
        raise click.UsageError("name the records, or say --reason or --device")
    address, codec = stack.kafka_address(kafka), Codec()
    chosen = (
        store.find(address, codec, list(names))
        if names
        else list(store.rejected(address, codec, reason=reason, device=device))
    )
    readings = store.retry(address, codec, chosen, vouched=vouch)
    if as_json:
        click.echo(json.dumps({"frames": len(chosen), "readings": readings}))
    else:
        click.echo(f"sent {counted(len(chosen), 'frame')} with {counted(readings, 'reading')} again")
