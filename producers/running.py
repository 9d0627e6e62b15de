"""An edge with the sources of an `edge.toml`, until it is told to end. Composes; reads no sensor."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from infra import log_lines, readiness, systemd
from infra.telemetry.health import Health
from infra.telemetry.tracing import start as start_tracing
from infra.version import our_version
from producers import journal
from producers.config import (
    EdgeConfig,
    ExecSource,
    FileSource,
    FolderSource,
    PythonSource,
    SimulateSource,
    SourceConfig,
    StdinSource,
)
from producers.delivery.backoff import Backoff
from producers.edge import Edge
from producers.files.described import Description, read_description
from producers.files.logger_file import Stamping
from producers.files.stamps import offset_minutes
from producers.sources.configured import Configured
from producers.sources.driver import Python
from producers.sources.folder import Folder
from producers.sources.following import Following
from producers.sources.pipes import Command, Stdin
from producers.sources.port import Source
from producers.sources.simulated import Simulate
from producers.sources.watching import Sources, Watched

LOOK_S = 0.5  # how late a signal is noticed at worst, and how often the watchdog is looked after
STUCK_S_MAX = 60.0  # a sender that has not turned for so long hangs; its supervisor starts the edge again
DRAIN_S_MAX = 5.0  # at the end, for what is on its way; the rest waits in the spool


def run(config: EdgeConfig, *, address: str | None = None) -> int:
    """Until SIGTERM, Ctrl-C, or the end of all sources. The number of readings that still wait then."""
    stop = threading.Event()
    watched: list[Watched] = []
    settings = config.settings
    backoff = Backoff(settings.restart_first_s, settings.restart_s_max)
    sources = Sources(watched, stop=stop, backoff=backoff)
    log_lines.speak_by(journal.error)
    with ExitStack() as seen, signals(stop):
        tracing = start_tracing("edge", version=our_version(), log=journal)
        edge = Edge(settings, address=address, devices=config.devices, sources=sources.states, tracing=tracing)
        try:
            configured = Configured(edge.address, settings, remembered=edge.spool.folder)
            for number, one in enumerate(config.source):
                make = partial(source, one, config.folder, edge, configured)
                make()  # tells what is wrong with it before anything runs
                watched.append(Watched(config.name_of(number), config.device_of(one), make, edge, stop))
            sources.watched = tuple(watched)
            sources.start()
            health = Health("edge", stuck_s=STUCK_S_MAX)
            seen.enter_context(_measured(health, edge, sources))
            journal.info("edge runs", spool=str(edge.spool.folder), kafka=edge.address, sources=len(watched))
            readiness.announce()
            _watch(edge, sources, stop, health)
            systemd.notify("STOPPING=1")
            for name in sources.end():
                journal.warning("source does not end", source=name)
        finally:
            stop.set()
            edge.close(drain_s=DRAIN_S_MAX)
    return edge.waiting


def _measured(health: Health, edge: Edge, sources: Sources) -> AbstractContextManager[object]:
    """Metrics, where there is a port for them; else what makes them is not even loaded: it takes megabytes."""
    settings = edge.settings
    if settings.metrics_port is None:
        return nullcontext()
    from infra.telemetry.serving import serving  # noqa: PLC0415
    from infra.telemetry.settings import MetricsSettings  # noqa: PLC0415
    from producers import measured  # noqa: PLC0415

    measured.checks(health, edge, sources)
    place = MetricsSettings(host=settings.metrics_host, port=settings.metrics_port)
    return serving(health, measured.EdgeMetrics(edge, sources), settings=place, log=journal)


def _watch(edge: Edge, sources: Sources, stop: threading.Event, health: Health) -> None:
    """Looks after the sender and the watchdog, and tells what becomes of the link."""
    link, healed = None, edge.spool.healed
    if edge.spool.recovered is not None:
        journal.error("spool recovered", detail=str(edge.spool.recovered))
    while not stop.wait(LOOK_S):
        now = edge.progress.link  # raises what ended the sender
        if now != link:
            link = now
            journal.info("link", state=str(now.link), detail=now.detail)
        if edge.spool.healed != healed:
            healed = edge.spool.healed
            journal.error("spool recovered", detail=str(edge.spool.recovered))
        if time.monotonic() - edge.turned_at < STUCK_S_MAX:
            systemd.notify("WATCHDOG=1")
            health.beat()
        if sources.ended:
            journal.info("all sources ended")
            return


@contextmanager
def signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C set `stop`; a second Ctrl-C ends at once, losing nothing that was accepted."""

    def asked(number: int, _: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def source(one: SourceConfig, folder: Path, edge: Edge, configured: Configured) -> Source:
    """What a table of `edge.toml` means. Raises `Refused` for what can be known to be wrong before it runs."""
    return _MAKERS[type(one)](one, folder, edge, configured)


def _described(one: FileSource | FolderSource) -> tuple[Stamping, Description | None]:
    minutes = None if one.utc_offset is None else offset_minutes(one.utc_offset)
    return Stamping(minutes, one.stamp, one.interval_s), read_description(one.description) if one.description else None


def _file(one: FileSource, _: Path, edge: Edge, configured: Configured) -> Source:
    told, description = _described(one)
    return Following(one.path, configured.device, told, description, one.every_s)


def _folder(one: FolderSource, _: Path, edge: Edge, configured: Configured) -> Source:
    told, description = _described(one)
    return Folder(one.path, edge, configured.device, one.pattern, told, description, one.every_s)


_MAKERS: dict[type[Any], Callable[..., Source]] = {
    ExecSource: lambda one, *_: Command(one.command, one.every_s, one.quiet_s_max),
    StdinSource: lambda *_: Stdin(),
    FileSource: _file,
    FolderSource: _folder,
    PythonSource: lambda one, folder, *_: Python(one.entry, one.every_s, folder, one.options),
    SimulateSource: lambda one, _, edge, *__: Simulate(edge, one.sensors, one.rate, one.faults, one.seed),
}
