"""What the commands of `telltale export` may be told, and the request it comes to."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infra.options import DATABASE
from schemas.errors import Refused

if TYPE_CHECKING:
    from dashboard.exports.request import ExportRequest

F = TypeVar("F", bound=Callable[..., Any])

KAFKA = click.option("--kafka", metavar="HOST:PORT", help="Where alarms go; by default TELLTALE_KAFKA or the stack's.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For scripts: the summary as one JSON object.")
OPTIONS = {
    "begin": "from",
    "end": "to",
    "sensors": "sensor",
    "statistics": "statistic",
    "quantities": "quantity",
    "figures": "figure",
    "include_flags": "include-flag",
    "exclude_flags": "exclude-flag",
}
"""What a field of the request is called at the shell, where it is called otherwise there."""
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";"}


def choosing(command: F) -> F:
    """Options that say what goes into the file: the same for every format."""
    for option in (
        KAFKA,
        DATABASE,
        AS_JSON,
        click.option("--force", is_flag=True, help="Replace a file that is there."),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="By default here, called after the station, device or sensor.",
        ),
        click.option(
            "--labels",
            type=click.Choice(["described", "channel", "bare"]),
            help="How columns are called; by default described in Windographer text and zip, else bare.",
        ),
        click.option(
            "--stamp",
            type=click.Choice(["begin", "end"]),
            default="begin",
            show_default=True,
            help="What stamps mark of the interval.",
        ),
        click.option(
            "--zone",
            default="station",
            show_default=True,
            metavar="ZONE",
            help="Of the stamps: station (its loggers' offset), UTC, such as +01:00, or such as Europe/Dublin.",
        ),
        click.option(
            "--exclude-flag",
            "exclude_flags",
            metavar="CATEGORY",
            multiple=True,
            help="Leave readings flagged so out; * for all; may come several times.",
        ),
        click.option(
            "--include-flag",
            "include_flags",
            metavar="CATEGORY",
            multiple=True,
            help="Take readings flagged so in, which their category leaves out; * for all; may come several times.",
        ),
        click.option(
            "--quality",
            metavar="FLAGS",
            default="good,not_evaluated",
            show_default=True,
            help="Flags of the readings that stay in.",
        ),
        click.option("--logged", is_flag=True, help="Values as logged instead of calibrated."),
        click.option(
            "--figure",
            "figures",
            metavar="mean,sd,min,max,sum,count",
            help="Of longer intervals, a column each; by default what each channel is.",
        ),
        click.option(
            "--interval",
            type=click.Choice(["logged", "10min", "hour", "day"]),
            default="logged",
            show_default=True,
            help="Of the rows.",
        ),
        click.option("--to", "end", metavar="TIME", help="Before this time."),
        click.option("--from", "begin", metavar="TIME", help="From this time on, UTC where no zone is given."),
        click.option(
            "--quantity", "quantities", metavar="WORDS", help="Of these quantities, such as wind_speed,wind_direction."
        ),
        click.option("--statistic", "statistics", metavar="WORDS", help="Of these statistics, such as avg,sd."),
        click.option(
            "--sensor",
            "sensors",
            metavar="[DEVICE/]CHANNEL",
            multiple=True,
            help="These sensors; * and ? are allowed; may come several times.",
        ),
        click.option("--device", metavar="ID", help="Sensors of this device."),
        click.option("--station", metavar="ID", help="Devices of this station."),
    ):
        command = option(command)
    return command


def written(command: F) -> F:
    """Options that say how text is written."""
    for option in (
        click.option(
            "--separator",
            type=click.Choice(list(SEPARATORS)),
            help="Between cells; by default a tab, in CSV and iea43 a comma (beside a decimal comma a semicolon).",
        ),
        click.option(
            "--decimal", type=click.Choice(["dot", "comma"]), default="dot", show_default=True, help="The decimal mark."
        ),
        click.option("--missing", default="", metavar="CODE", help="Such as -9999; by default the cell is empty."),
    ):
        command = option(command)
    return command


def request_of(kind: str, **words: Any) -> "ExportRequest":
    """What these options' values ask for. Raises `Refused` with the option that makes no sense."""
    from pydantic import ValidationError  # noqa: PLC0415 - these are slow to import, and `--help` needs none of them

    from dashboard.exports.request import ExportRequest  # noqa: PLC0415
    from dashboard.readings import flags_of  # noqa: PLC0415
    from infra.moments import moment  # noqa: PLC0415

    said = {
        "format": kind,
        **{
            name: words[name] for name in ("station", "device", "sensors", "interval", "include_flags", "exclude_flags")
        },
        **{name: words[name] for name in ("zone", "stamp", "labels")},
        **{name: _words(words[name]) for name in ("statistics", "quantities", "figures")},
        "begin": moment(words["begin"], option="--from"),
        "end": moment(words["end"], option="--to"),
        "values": "logged" if words["logged"] else "calibrated",
        "quality": flags_of(words["quality"]),
    }
    if "decimal" in words:
        said |= {
            "missing": words["missing"],
            "decimal": "," if words["decimal"] == "comma" else ".",
            "separator": SEPARATORS.get(words["separator"]),
        }
    if "flag_log" in words:
        said["flag_log"] = words["flag_log"]
    try:
        return ExportRequest.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        about = str(first["msg"]).removeprefix("Value error, ")
        where = "".join(f"--{OPTIONS.get(str(part), part)}: " for part in first["loc"][:1])
        raise Refused(f"{where}{about}") from None


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())
