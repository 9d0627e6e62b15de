"""The commands that run the stack: up, status, down, doctor, topics, kafka. Each imports its work when it is used."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from infra.counted import counted
from infra.options import AS_JSON, KAFKA, Bounded

if TYPE_CHECKING:
    from datetime import datetime

    from infra.stack import Stack

Command = Callable[..., Any]

directory = click.option(
    "--dir", "folder", metavar="DIR", help="The stack's folder; by default TELLTALE_DIR or .telltale."
)
PORT: dict[str, Any] = {"type": click.IntRange(1, 65535), "metavar": "PORT"}


def echo_json(value: Mapping[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2))


@click.command()
@directory
@click.option("--detach", is_flag=True, help="Return when everything works, and leave it running.")
@click.option("--only", metavar="PARTS", help="Just these parts, such as kafka,postgres.")
@click.option(
    "--brokers",
    type=int,
    metavar="1|3",
    help="Nodes of Kafka, decided when the stack is made; by default TELLTALE_BROKERS or 1. Three survive one's loss.",
)
@click.option(
    "--kafka-port", **PORT, help="By default a free one, kept for the next start; of three brokers the first's."
)
@click.option("--postgres-port", **PORT, help="By default a free one, kept for the next start.")
@click.option("--dashboard-port", **PORT, help="By default a free one, kept for the next start.")
@click.option(
    "--devices",
    metavar="HOST:PORT",
    help="Also let devices in there, by TLS and password; by default TELLTALE_DEVICES_AT. See `telltale tls init`.",
)
@click.option(
    "--device-certificates",
    "certificates",
    metavar="HOST:PORT",
    help="Also let devices in there, by certificate; by default TELLTALE_DEVICE_CERTIFICATES_AT.",
)
def up(
    *,
    folder: str | None,
    detach: bool,
    only: str | None,
    brokers: int | None,
    kafka_port: int | None,
    postgres_port: int | None,
    dashboard_port: int | None,
    devices: str | None,
    certificates: str | None,
) -> None:
    """Start broker, database and services on this machine. SIGTERM or Ctrl-C stops them."""
    from infra import stack
    from infra.up import Wish, run
    from infra.up import detach as run_detached

    wish = Wish(stack.folder(folder), only, kafka_port, postgres_port, dashboard_port, devices, certificates, brokers)
    if detach:
        show_addresses(run_detached(wish))
    else:
        run(wish, follow=True, when_up=show_addresses)


def show_addresses(stack: "Stack") -> None:
    click.echo(f"Telltale is up in {stack.folder}")
    for name, address in _addresses(stack):
        click.echo(f"  {name:<14} {address}")
    if stack.dashboard:
        click.echo(f"  {'first time':<14} telltale users first-link  (makes the dashboard's administrator)")
    click.echo(f"  {'stop with':<14} telltale down --dir {stack.folder}")


def _addresses(stack: "Stack") -> list[tuple[str, str]]:
    """Where it listens, each with what is to be found there."""
    rows = (
        ("Kafka", stack.kafka),
        ("devices", stack.devices),
        ("by certificate", stack.certificates),
        ("database", stack.database),
        ("dashboard", stack.dashboard),
    )
    return [(name, address) for name, address in rows if address]


@click.command()
@directory
@AS_JSON
def status(folder: str | None, as_json: bool) -> None:
    """What runs, since when, and where it listens. Exit code 1 if not all of it runs."""
    from infra import stack

    found = stack.recorded(folder)
    if found is None:
        if as_json:
            echo_json({"dir": str(stack.folder(folder)), "up": False, "services": []})
            raise SystemExit(1)
        stack.locate(folder)  # says it
        return
    services = [service.now().told() for service in found.services]
    if as_json:
        echo_json(
            {
                "dir": str(found.folder),
                "up": found.is_up,
                "supervisor": found.supervisor.pid if found.is_supervised else None,
                "kafka": found.kafka,
                "devices": found.devices,
                "certificates": found.certificates,
                "database": found.database,
                "dashboard": found.dashboard,
                "services": services,
            }
        )
    else:
        _show_status(found, services)
    if not found.is_up:
        raise SystemExit(1)


def _show_status(found: "Stack", services: list[dict[str, Any]]) -> None:
    click.echo(f"{'service':<12}{'state':<12}{'pid':>9}{'restarts':>10}{'uptime':>12}  metrics")
    for each in services:
        uptime = "" if each["uptime_s"] is None else f"{each['uptime_s']:.0f} s"
        line = f"{each['name']:<12}{each['state']:<12}{each['pid'] or '':>9}{each['restarts']:>10}{uptime:>12}"
        click.echo(f"{line}  {each['metrics'] or ''}".rstrip())
    for name, address in _addresses(found):
        click.echo(f"{name:<15}{address}")
    if not found.is_supervised:
        click.echo("the supervisor is gone: `telltale up` starts all again, `telltale down` ends what is left")


@click.command()
@directory
@click.option("--remove", is_flag=True, help="Also delete the stack's folder with all its data.")
def down(folder: str | None, remove: bool) -> None:
    """Stop what `up` has started. Data stays, unless --remove."""
    from infra import stack
    from infra import up as stacks

    place = stack.folder(folder)
    click.echo(f"stopped {place}" if stacks.down(place) else f"no stack runs in {place}")
    if remove and place.exists():
        stacks.remove(place)
        click.echo(f"removed {place}")


@click.command()
@directory
@AS_JSON
@click.option("--kafka-port", **PORT, help="Also say whether this port is free.")
@click.option("--postgres-port", **PORT, help="Also say whether this port is free.")
def doctor(folder: str | None, as_json: bool, kafka_port: int | None, postgres_port: int | None) -> None:
    """What this machine lacks for a stack, and how to get it. Exit code 1 if it lacks something."""
    from dataclasses import asdict

    from infra import stack
    from infra.doctor import examine

    findings = list(examine(stack.folder(folder), kafka_port=kafka_port, postgres_port=postgres_port))
    if as_json:
        echo_json({"ok": all(each.ok for each in findings), "findings": [asdict(each) for each in findings]})
    else:
        for each in findings:
            click.echo(f"{'ok' if each.ok else 'MISSING':<9}{each.name:<12}{each.found}")
    if not all(each.ok for each in findings):
        raise SystemExit(1)


@click.group()
def topics() -> None:
    """Kafka topics against the catalogue."""


@topics.command()
@KAFKA
@AS_JSON
def check(kafka: str | None, as_json: bool) -> None:
    """Say how the broker's topics differ from the catalogue. Exit code 1 if they do."""
    from dataclasses import asdict

    from infra import provision
    from infra.stack import kafka_address

    differences = provision.check(kafka_address(kafka))
    if as_json:
        echo_json({"differences": [asdict(each) for each in differences]})
    else:
        for each in differences:
            click.echo(str(each))
        click.echo(counted(len(differences), "difference") if differences else "all topics are as the catalogue says")
    if differences:
        raise SystemExit(1)


@topics.command("provision")
@KAFKA
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    envvar="TELLTALE_PARTITIONS",
    metavar="N",
    help="Of topics keyed by device, by default TELLTALE_PARTITIONS or 12; fixed once they are made.",
)
@click.option("--align", is_flag=True, help="Also set the settings of existing topics as the catalogue has them.")
@AS_JSON
def provision_topics(kafka: str | None, partitions: int | None, align: bool, as_json: bool) -> None:
    """Create missing topics; report differences of those that exist."""
    from dataclasses import asdict

    from infra import provision
    from infra.stack import kafka_address

    done = provision.provision(kafka_address(kafka), partitions=partitions, align=align)
    if as_json:
        echo_json(asdict(done))
        return
    for name in done.created:
        click.echo(f"created {name}")
    for each in done.aligned:
        click.echo(f"set {each.topic}: {each.what} = {each.expected} (was {each.got})")
    for each in done.differences:
        click.echo(f"different: {each}")
    if not (done.created or done.aligned or done.differences):
        click.echo("all topics are as the catalogue says")


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("tool")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kafka(tool: str, arguments: tuple[str, ...]) -> None:
    """Run one of Kafka's own tools, such as `telltale kafka consumer-groups --list`, against the stack."""
    from infra.kafka import tools
    from infra.stack import kafka_address

    words = list(arguments)
    address = kafka_address() if tools.needs_broker(tool, words) else None
    tools.become(tool, words, address=address)


@click.command()
@KAFKA
@AS_JSON
@click.option(
    "--timeout",
    "timeout_s",
    type=Bounded(min=0),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Give up then.",
)
def settle(kafka: str | None, as_json: bool, timeout_s: float) -> None:
    """Wait until all that was produced is processed and stored. Exit code 1 if it is not in time."""
    import sys
    import time

    from infra.settle import Behind
    from infra.settle import settle as wait
    from infra.stack import kafka_address

    began = time.monotonic()

    def show(left: list[Behind]) -> None:
        records = sum(each.end - each.position for each in left)
        click.echo(f"\r{left[0].group}: some {counted(records, 'record')} to go      ", err=True, nl=False)

    terminal = sys.stderr.isatty()
    left = wait(kafka_address(kafka), timeout_s=timeout_s, progress=show if terminal else lambda _: None)
    seconds = round(time.monotonic() - began, 2)
    if terminal:
        click.echo("\r\x1b[K", err=True, nl=False)
    if as_json:
        from dataclasses import asdict

        echo_json({"settled": not left, "seconds": seconds, "behind": [asdict(each) for each in left]})
    elif not left:
        click.echo(f"settled after {seconds} s")
    else:
        for each in left:
            click.echo(f"{each.group} is at {each.position} of {each.end} in {each.topic}, partition {each.partition}")
    if left:
        raise SystemExit(1)


@click.group(invoke_without_command=True)
@click.pass_context
@directory
@KAFKA
@click.option("--from", "since", metavar="TIME", help="From what the broker took at this time on; with a zone or Z.")
@click.option("--by", "length", metavar="LENGTH", help="Back by this much, such as 30m, 8h or 2d.")
@click.option("--from-beginning", is_flag=True, help="All that the broker still has.")
@click.option(
    "--device", metavar="ID", help="Only the partition of this device, which is configured or has readings there."
)
@click.option("--dry-run", is_flag=True, help="Say what would be read again; change nothing.")
@AS_JSON
def replay(
    ctx: click.Context,
    *,
    folder: str | None,
    kafka: str | None,
    since: str | None,
    length: str | None,
    from_beginning: bool,
    device: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compute again from a point in the log, with today's configuration.

    The worker that this stack runs is asked to end, the group's offsets are reset, and its supervisor starts it
    again; it finds offsets without its mark and begins a new generation. Nobody is paged again.

    \b
    telltale replay --by 8h --dry-run
    telltale replay --from 2026-11-01T00:00Z
    telltale replay --from-beginning --device mast-7
    """
    if ctx.invoked_subcommand is not None:
        return
    import signal
    from dataclasses import asdict
    from functools import partial

    from infra import replay as replays
    from infra import stack

    if [bool(since), bool(length), from_beginning].count(True) != 1:
        raise click.UsageError("say one of --from TIME, --by LENGTH, --from-beginning; or: telltale replay list")
    kafka = stack.kafka_address(kafka)
    looks = partial(click.echo, err=True)
    moves = replays.plan(kafka, since=_since(since, length), device_id=device, looks=looks)
    if moves and not dry_run:
        found = stack.recorded(folder)
        running = [each.now() for each in found.services if each.name == "streams"] if found else []
        asked: set[int] = set()

        def ask_to_end() -> None:
            for service in running:
                if service.process and service.process.pid not in asked:
                    asked.add(service.process.pid)
                    service.process.send(signal.SIGTERM)

        replays.reset(kafka, moves, between=ask_to_end)
    records = sum(move.records for move in moves)
    if as_json:
        echo_json({"dry_run": dry_run, "records": records, "partitions": [asdict(move) for move in moves]})
    elif not moves:
        click.echo("nothing to read again: the broker has taken nothing since then, or it is not processed yet")
    else:
        will = "would be" if dry_run else "will be"
        click.echo(f"{counted(records, 'record')} of {counted(len(moves), 'partition')} {will} read again")


def _since(since: str | None, length: str | None) -> "datetime | None":
    """The point in time that two options speak of; None: the beginning."""
    import re
    from datetime import UTC, datetime, timedelta

    from infra.moments import zoned_moment
    from schemas.errors import Refused

    if length is not None:
        parts = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", length)
        if parts is None:
            raise Refused(f'--by: expected a length such as 30m, 8h or 2d, got "{length}"')
        seconds = float(parts[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[parts[2]]
        try:
            return datetime.now(UTC) - timedelta(seconds=seconds)
        except OverflowError:
            raise Refused(f"--by {length}: that is before the year 1; say --from-beginning") from None
    return None if since is None else zoned_moment(since, option="--from")


@replay.command("list")
@KAFKA
@AS_JSON
def list_replays(kafka: str | None, as_json: bool) -> None:
    """The generation of each partition.

    It counts how often an operator has had it computed again.
    """
    from dataclasses import asdict

    from infra import replay as replays
    from infra.stack import kafka_address

    found = replays.positions(kafka_address(kafka))
    if as_json:
        echo_json({"partitions": [asdict(each) for each in found]})
        return
    click.echo(f"{'partition':>9}  {'generation':>10}  {'offset':>12}  {'end':>12}")
    for each in found:
        generation = "reset" if each.generation is None and each.offset is not None else each.generation
        offset = "-" if each.offset is None else each.offset
        click.echo(
            f"{each.partition:>9}  {'-' if generation is None else generation:>10}  {offset:>12}  {each.end:>12}"
        )
