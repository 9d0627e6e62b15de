"""The one command `telltale`: gathers the services' commands by name and imports one when it is used.

Knows names; imports no service. The edge starts without Faust, `--help` starts without anything.
"""

import errno
import importlib
import os
import re
import sys
from typing import Any

import click

from infra import log_lines
from infra.audit.commands import audited
from schemas.errors import Refused, Unavailable

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("infra.demo.cli:demo", "A month of a real mast through the whole way, checked by counting."),
    "up": ("infra.cli:up", "Start broker, database and services on this machine."),
    "status": ("infra.cli:status", "What runs, since when, and where it listens."),
    "down": ("infra.cli:down", "Stop what `up` has started."),
    "doctor": ("infra.cli:doctor", "What this machine lacks, and how to get it."),
    "settle": ("infra.cli:settle", "Wait until all that was produced is processed and stored."),
    "stations": ("producers.stations.cli:stations", "Stations, devices and their sensors."),
    "import": ("producers.imports.cli:import_", "Import logger files of any known format."),
    "imports": ("dashboard.imports.cli:imports", "Imported files: what became of each, and what is missing."),
    "device": ("infra.security.cli:device", "Who may write readings: credentials and keys of devices."),
    "tls": ("infra.security.cli:tls", "Certificates for listeners that leave the machine."),
    "edge": ("producers.cli:edge", "Send readings from the edge: run, send, simulate, spool."),
    "readings": ("dashboard.cli:readings", "Stored readings: count and show."),
    "alarms": ("dashboard.cli:alarms", "Alarms: tail, list, acknowledge, shelve; and their rules."),
    "dashboard": ("dashboard.web.cli:dashboard", "Pages and REST API."),
    "token": ("dashboard.web.cli:token", "Tokens for scripts and notebooks."),
    "streams": ("streams.cli:streams", "The stage that validates, calibrates, windows and alarms."),
    "quality": ("streams.cli:quality", "Limits of the quality tests: try them on a file."),
    "sink": ("sinks.timescale.cli:sink", "The sink from Kafka to the database."),
    "recalibrate": ("sinks.timescale.recalibration.cli:recalibrate", "Calibrate stored readings anew."),
    "flags": ("dashboard.flags.cli:flags", "Flag bad periods, and take flags off."),
    "export": ("dashboard.exports.cli:export", "Stored readings as files: Windographer, CSV, Parquet, zip, IEA."),
    "db": ("sinks.timescale.db_cli:db", "The database: schema, sizes, retention, readers."),
    "users": ("dashboard.people.cli:users", "Accounts of the dashboard."),
    "rejected": ("dashboard.cli:rejected", "What could not be taken, and why; send it again."),
    "replay": ("infra.cli:replay", "Compute again from a point in the log."),
    "backup": ("infra.backup.cli:backup", "Backups of the database: make, list, verify, restore."),
    "notify": ("sinks.notify.cli:notify", "Alarms to people: e-mail, webhook, command."),
    "watchdog": ("infra.watchdog.cli:watchdog", "Trouble that no part can tell of itself."),
    "audit": ("infra.audit.cli:audit", "Who did what, and what came of it."),
    "topics": ("infra.cli:topics", "Kafka topics against the catalogue."),
    "kafka": ("infra.cli:kafka", "Run one of Kafka's own tools against the stack."),
}


GUESTS: dict[tuple[str, str], tuple[str, str]] = {
    ("alarms", "rules"): ("producers.stations.rules.cli:rules", "What raises an alarm: list, set, remove."),
    ("imports", "backfill"): ("producers.imports.upkeep.cli:backfill", "Read files again for what is missing."),
    ("imports", "forget"): ("producers.imports.upkeep.cli:forget", "Take files off the list, and their alarms."),
    ("imports", "run"): ("producers.imports.upkeep.cli:run", "Follow files until they are stored; uploads, alarms."),
}
"""Commands that stand in another service's group, where people look for them."""


class Guest(click.Command):
    """A command of another service: imported when it is used, so that its host need not be able to import it."""

    def __init__(self, place: tuple[str, str], where: str, about: str) -> None:
        super().__init__(place[1], short_help=about, help=about)
        self._place, self._where = place, where

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        real = imported(" ".join(self._place), self._where)
        return real.make_context(info_name, args, parent, **extra)


def imported(name: str, where: str) -> click.Command:
    """The command at `module:attribute`."""
    module, _, attribute = where.partition(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"`telltale {name}` {_lacking(error) or f'cannot be had: {error}'}") from None
    if not isinstance(command, click.Command):
        raise TypeError(f"{where} is no command")
    return audited(tuple(name.split()), command)


def _lacking(error: ModuleNotFoundError) -> str | None:
    """What an installation with fewer extras lacks, such as an edge's; None if the module is one of ours."""
    package = (error.name or "").partition(".")[0]
    if package in {"infra", "producers", "streams", "sinks", "dashboard", "schemas"}:
        return None
    return (
        f"needs the package {package}, which is not installed here; "
        "install Telltale with the extra that has it (pip install '.[all]')"
    )


class Commands(click.Group):
    """Commands by name; each imported when it is asked for, with its help line known beforehand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = imported(name, COMMANDS[name][0])
        for place, (where, about) in GUESTS.items():
            if place[0] == name and isinstance(command, click.Group):
                command.add_command(Guest(place, where, about))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="telltale")
def telltale() -> None:
    """Sensor readings from the edge through Kafka into TimescaleDB: nothing lost, nothing twice, trouble told."""


def main() -> None:
    """Run the command; tell a person's mistake or a sick neighbour in one line."""
    try:
        code = telltale.main(standalone_mode=False)  # what a command gave to `ctx.exit`
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Refused, Unavailable) as error:
        log_lines.last_words(str(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:  # of a package that a command imports only when it works
        said = _lacking(error)
        if said is None:
            raise
        log_lines.last_words(f"this command {said}")
        sys.exit(1)
    except ValueError as error:
        said = _wrong_input(error)
        if said is None:
            raise
        log_lines.last_words(said)
        sys.exit(Refused.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        said = _sick_file(error) if isinstance(error, OSError) else _no_client(error)
        if said is None:
            raise
        log_lines.last_words(said)
        sys.exit(Unavailable.exit_code if isinstance(error, OSError) else Refused.exit_code)


def _no_client(error: Exception) -> str | None:
    """What librdkafka finds wrong with what it is told, such as a certificate's file that holds none."""
    kafka = sys.modules.get("confluent_kafka")
    if kafka is None or not isinstance(error, kafka.KafkaException):
        return None
    told = error.args[0]
    return f"Kafka: {told.str()}" if told.code() == kafka.KafkaError._INVALID_ARG else None


def _sick_file(error: OSError) -> str | None:
    """What is wrong with a file that a person has named, or with where the output goes."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what waits to be written would be tried once more
    return f"what is printed cannot be written: {error.strerror}"


def _wrong_input(error: ValueError) -> str | None:
    """What is wrong with an argument's bytes or with which environment variable, if that is what it is."""
    if isinstance(error, UnicodeEncodeError):  # of half a character; not of which text, for it may be a password
        return "an argument, a setting or a file's name holds bytes that are no UTF-8"
    from pydantic import ValidationError  # noqa: PLC0415 - a command that settings do not concern need not wait for it
    from pydantic_settings import BaseSettings, SettingsError  # noqa: PLC0415

    if isinstance(error, SettingsError):
        said = re.search(r'field "(\w+)"', str(error))
        for settings in BaseSettings.__subclasses__():
            variable = f"{settings.model_config.get('env_prefix', '')}{said[1] if said else ''}".upper()
            if variable in os.environ:
                return f"{variable}: expected JSON"
        return f"{error}: expected JSON"
    if not isinstance(error, ValidationError):
        return None
    for settings in BaseSettings.__subclasses__():
        if settings.__name__ == error.title:
            prefix = settings.model_config.get("env_prefix", "")
            return "; ".join(
                f'{prefix}{str(each["loc"][0]).upper()}: {each["msg"]}, got "{each["input"]}"'
                if each["loc"]  # of one setting; else of several together, and their values may be secrets
                else prefix + each["msg"].removeprefix("Value error, ")
                for each in error.errors()
            )
    return None


if __name__ == "__main__":
    main()
