"""Which commands leave a trace, and the trace. Knows commands by name; each is wrapped when it is imported.

A trace has who (the account, and who lent it), when, what, on what, with which options, and what came of it. Values
that may be secret are left out.
"""

import os
import pwd
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from infra.audit import journal
from infra.readiness import READY_FILE
from schemas.errors import Refused, Unavailable

AUDITED: dict[tuple[str, ...], str] = {
    ("device", "add"): "device.add",
    ("device", "rotate"): "device.rotate",
    ("device", "revoke"): "device.revoke",
    ("tls", "init"): "tls.init",
    ("replay",): "replay",
    ("recalibrate",): "recalibrate",
    ("flags", "add"): "flag.add",
    ("flags", "remove"): "flag.remove",
    ("flags", "import"): "flag.import",
    ("flags", "category"): "flag.category",
    ("backup", "create"): "backup.create",
    ("backup", "restore"): "backup.restore",
    ("alarms", "acknowledge"): "alarm.acknowledge",
    ("alarms", "shelve"): "alarm.shelve",
    ("alarms", "unshelve"): "alarm.unshelve",
    ("alarms", "comment"): "alarm.comment",
    ("alarms", "rules", "set"): "alarm_rule.set",
    ("alarms", "rules", "remove"): "alarm_rule.remove",
    ("stations", "import"): "station.import",
    ("stations", "adopt"): "station.adopt",
    ("stations", "remove"): "station.remove",
    ("stations", "calibration", "add"): "calibration.add",
    ("rejected", "retry"): "rejected.retry",
    ("imports", "forget"): "import.forget",
    ("imports", "backfill"): "import.backfill",
    ("users", "add"): "user.add",
    ("users", "disable"): "user.disable",
    ("users", "first-link"): "user.first_link",
    ("users", "reset"): "user.reset",
    ("users", "role"): "user.role",
    ("db", "keep"): "database.keep",
    ("db", "migrate"): "database.migrate",
    ("db", "grant-reader"): "database.grant_reader",
    ("db", "revoke-reader"): "database.revoke_reader",
    ("topics", "provision"): "topics.provision",
    ("kafka",): "kafka",
}
"""Tokens of the shell write their own, in the transaction that makes them."""

SECRET = {"database", "dsn", "password", "secret", "token"}
CHANGING = {"--execute", "--add", "--remove", "--alter", "--delete", "--create", "--delete-offsets", "--force"}
"""Options by which Kafka's own tools change something."""
TEXT_MAX = 500


def audited(path: tuple[str, ...], command: click.Command) -> click.Command:
    """The command, or those in its group, with their traces."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            audited((*path, name), inner)
    what = AUDITED.get(path)
    if what is not None and command.callback is not None and not hasattr(command.callback, "leaves_a_trace"):
        command.callback = _traced(what, command.callback)
    return command


def _traced(what: str, work: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    def traced(*args: Any, **options: Any) -> Any:
        context = click.get_current_context()
        if context.invoked_subcommand is not None or not _changes(what, context.params):
            return work(*args, **options)
        if what == "kafka":  # this process becomes Kafka's tool: nobody of us sees its end
            _leave(what, context, "done", "handed to Kafka's tool")
            return work(*args, **options)
        outcome, why = "failed", "it was stopped"
        try:
            made = work(*args, **options)
            outcome, why = "done", ""
        except (Refused, click.ClickException) as error:
            outcome, why = "refused", str(error) or error.__class__.__name__
            raise
        except click.exceptions.Exit as end:
            outcome, why = ("done", "") if end.exit_code == 0 else ("failed", f"exit code {end.exit_code}")
            raise
        except SystemExit as end:
            outcome, why = ("done", "") if not end.code else ("failed", f"exit code {end.code}")
            raise
        except Exception as error:
            why = str(error) if isinstance(error, Unavailable) else repr(error)
            raise
        else:
            return made
        finally:
            _leave(what, context, outcome, why)

    traced.leaves_a_trace = True  # type: ignore[attr-defined]
    return traced


def _changes(what: str, params: dict[str, Any]) -> bool:
    """Whether the call is more than a look, and somebody's: a service's own is not."""
    if params.get("dry_run") or os.environ.get(READY_FILE):
        return False
    if what == "kafka":
        return any(word.partition("=")[0] in CHANGING for word in params.get("arguments", ()))
    return True


def _leave(what: str, context: click.Context, outcome: str, why: str) -> None:
    from infra import stack  # noqa: PLC0415

    entry = journal.Entry(
        time=datetime.now(UTC),
        who=_who(),
        what=what,
        subject=_subject(context),
        outcome=outcome,
        detail={**_options(context), **({"why": why[:TEXT_MAX]} if why else {})},
        address=socket.gethostname(),
    )
    where = journal.place(stack.folder(context.params.get("folder") if what in FOLDER_IS_THE_STACKS else None))
    try:
        journal.write(where, entry)
    except OSError as error:
        click.echo(f"warning: {where}: {error.strerror}; this is in no audit log", err=True)
        return
    if what == "backup.restore":
        journal.bring_all_again(where)
    try:
        dsn = stack.database_dsn()
    except Unavailable:  # brought later
        return
    try:
        journal.bring(where, dsn)
    except ImportError:  # no database driver here
        return


FOLDER_IS_THE_STACKS = {"replay"}
"""Commands whose --dir names the stack's folder."""


def _who() -> str:
    """The account, and who lent it."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a number without a name, as in containers
        account = f"uid {os.getuid()}"
    lender = os.environ.get("SUDO_USER")
    return f"{account} (sudo by {lender})" if lender and lender != account else account


def _subject(context: click.Context) -> str:
    named = [context.params.get(each.name or "") for each in context.command.params if isinstance(each, click.Argument)]
    words = [str(word) for value in named if value for word in (value if isinstance(value, tuple) else (value,))]
    return " ".join(_shown(word) for word in words)[:TEXT_MAX]


def _options(context: click.Context) -> dict[str, Any]:
    """Those that were given, but for what may be secret."""
    given = {}
    for each in context.command.params:
        name = each.name or ""
        value = context.params.get(name)
        source = context.get_parameter_source(name)
        was_given = source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")
        if isinstance(each, click.Argument) or not was_given or name in SECRET or name == "as_json":
            continue
        given[name] = [_shown(one) for one in value] if isinstance(value, tuple) else _shown(value)
    return given


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return "(not shown)" if "password" in text.lower() or "://" in text else text[:TEXT_MAX]
