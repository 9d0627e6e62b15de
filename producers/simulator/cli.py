"""`telltale edge simulate`: made-up devices with faults, through a real spool to a real broker."""

import json
import re
import threading
import time
from pathlib import Path

import click

from infra.counted import counted
from infra.options import KAFKA, Bounded
from schemas.errors import Refused, Unavailable

DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


class Duration(click.ParamType):
    """`90`, `90s`, `5m`, `2h` as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = DURATION.match(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; write 90s, 5m or 2h", param, ctx)
        return float(found[1]) * UNITS[found[2]]


@click.command()
@click.option(
    "--devices", type=click.IntRange(1, 10_000), default=1, show_default=True, metavar="N", help="So many devices."
)
@click.option(
    "--sensors", type=click.IntRange(1, 1000), default=4, show_default=True, metavar="N", help="So many of each device."
)
@click.option(
    "--rate",
    type=Bounded(0.001, 10_000),
    default=1.0,
    show_default=True,
    metavar="N",
    help="Rows a second of each device.",
)
@click.option(
    "--faults",
    default="",
    metavar="NAME[:CHANCE],...",
    help="Faults, each with its chance per row and device, by default 0.01. Names: stuck spike drift nonsense "
    "jitter clock_jump gap silence duplicate "
    "out_of_order flood wrong_device bad_bytes.",
)
@click.option("--duration", type=Duration(), metavar="90s|5m|2h", help="Of the readings; by default for ever.")
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="The same seed and start give the same readings.",
)
@click.option("--start", metavar="TIME", help="Of the first row, ISO 8601 with a zone; by default now.")
@click.option("--fast", is_flag=True, help="As fast as it goes, instead of at the rate; needs --duration.")
@click.option(
    "--name", default="sim", show_default=True, metavar="NAME", help="Devices are called NAME-1, NAME-2 and so on."
)
@click.option(
    "--configure/--no-configure", default=True, show_default=True, help="Publish the devices' configurations first."
)
@click.option(
    "--truth", type=click.Path(path_type=Path), metavar="FILE", help="What was sent; by default in the spool's folder."
)
@click.option(
    "--spool",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The spool's folder; by default TELLTALE_DIR/edge/NAME.",
)
@KAFKA
@click.option("--json", "as_json", is_flag=True, help="For scripts: the counts as one JSON object.")
def simulate(
    *,
    devices: int,
    sensors: int,
    rate: float,
    faults: str,
    duration: float | None,
    seed: int,
    start: str | None,
    fast: bool,
    name: str,
    configure: bool,
    truth: Path | None,
    spool: Path | None,
    kafka: str | None,
    as_json: bool,
) -> None:
    """Send made-up readings with named faults.

    What was sent is written down (--truth): every row, and every fault with its place.
    """
    from infra.stack import kafka_address
    from producers.edge import Edge, wall_clock_us
    from producers.running import signals
    from producers.settings import EdgeSettings
    from producers.simulator.faults import parse_faults
    from producers.simulator.performance import Performance, perform
    from producers.stations.devices import configure as configure_devices

    if fast and duration is None:
        raise Refused("--fast needs --duration: how much to send")
    asked = Performance(
        devices=tuple(f"{name}-{number}" for number in range(1, devices + 1)),
        sensors=sensors,
        rate=rate,
        faults=parse_faults(faults),
        duration_s=duration,
        seed=seed,
        start_us=wall_clock_us() if start is None else _micros(start),
        fast=fast,
    )
    settings = EdgeSettings()
    address = kafka_address(kafka or settings.kafka)
    if configure:
        configure_devices(address, asked.configurations(), security=settings.security())
    folder = spool or settings.spool_folder(name)
    file = truth or folder / f"truth-{asked.start_us}.jsonl"
    stop = threading.Event()
    began = time.monotonic()
    with (
        signals(stop),
        Edge(settings.model_copy(update={"spool": folder}), address=address, devices=asked.devices) as edge,
    ):
        counts = perform(asked, edge, stop, truth=file)
        missing = edge.waiting_after(30.0 if not stop.is_set() else 2.0)
    total = {key: sum(each[key] for each in counts.values()) for key in next(iter(counts.values()))}
    took_s = time.monotonic() - began
    if as_json:
        told = {"devices": counts, "total": total, "waiting": missing, "seconds": round(took_s, 2), "truth": str(file)}
        click.echo(json.dumps({**told, "start_us": asked.start_us}))
    else:
        click.echo(
            f"{counted(total['readings'], 'reading')} in {counted(total['rows'], 'row')} "
            f"of {counted(devices, 'device')} in {took_s:.1f} s, {counted(total['faults'], 'fault')}, "
            f"{missing:,} wait in the spool; the truth is in {file}"
        )
    if missing:
        raise Unavailable(f"{edge.address}: {missing} readings are not acknowledged; they are safe in {folder}")


def _micros(text: str) -> int:
    from infra.moments import zoned_moment
    from producers.edge import time_us

    return time_us(zoned_moment(text, option="--start"))
