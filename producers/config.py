"""`edge.toml`: what an edge does. Knows the file; opens nothing.

device = "pi-1"                       # whose readings, where a source names no other
kafka = "broker:9092"
spool = "/var/lib/telltale"           # and every other setting of settings.py

[[source]]
kind = "exec"
command = ["python3", "bme280.py"]
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from producers.settings import EdgeSettings
from producers.simulator.faults import parse_faults
from schemas.errors import Refused
from schemas.json_file import spelled, told

Seconds = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = Field(default=None, description="In heartbeats and logs; else its kind, and its number.")
    device: Name | None = Field(default=None, description="Whose readings; else the file's `device`.")


class _Timed(_Source):
    """What a logger file does not say of itself; else the device's configuration says it."""

    description: Path | None = Field(default=None, description="TOML that describes the columns (README).")
    utc_offset: str | None = Field(default=None, description="The logger's clock against UTC, +HH:MM.")
    stamp: Literal["begin", "end"] | None = Field(default=None, description="What a stamp marks of its interval.")
    interval_s: Seconds | None = Field(default=None, description="Between two rows.")


class ExecSource(_Source):
    """A command that prints lines of readings."""

    kind: Literal["exec"]
    command: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(description="Program and arguments; no shell.")
    every_s: Seconds | None = Field(default=None, description="Call it so often; else it runs for ever.")
    quiet_s_max: Seconds | None = Field(default=None, description="Restart it when it says nothing for so long.")


class StdinSource(_Source):
    """Lines of readings on standard input, to its end."""

    kind: Literal["stdin"]


class FileSource(_Timed):
    """A logger file that grows."""

    kind: Literal["file"]
    path: Path
    every_s: Seconds = Field(default=1.0, description="Between two looks.")


class FolderSource(_Timed):
    """New files in a folder."""

    kind: Literal["folder"]
    path: Path
    pattern: Name = Field(default="*", description="Of the names of files.")
    every_s: Seconds = Field(default=5.0, description="Between two looks; a file unchanged for so long is taken.")


class PythonSource(_Source):
    """A sensor driver: `entry` makes an object with `read()` and `close()`."""

    kind: Literal["python"]
    entry: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] = Field(description="module:callable")
    every_s: Seconds = Field(default=1.0, description="Between two calls of read().")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the callable.")


class SimulateSource(_Source):
    """Made-up readings of one device, with faults."""

    kind: Literal["simulate"]
    sensors: Annotated[int, Field(ge=1, le=1000)] = 4
    rate: Annotated[float, Field(gt=0, le=1000)] = Field(default=1.0, description="Rows a second.")
    faults: str = Field(default="", description="As `telltale edge simulate --faults`.")
    seed: int = 1

    @model_validator(mode="after")
    def _known_faults(self) -> Self:
        try:
            parse_faults(self.faults)
        except Refused as error:
            raise ValueError(str(error)) from None
        return self


SourceConfig = Annotated[
    ExecSource | StdinSource | FileSource | FolderSource | PythonSource | SimulateSource, Field(discriminator="kind")
]


class EdgeConfig(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: EdgeSettings
    folder: Path
    source: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _whose_and_which(self) -> Self:
        names = [self.name_of(number) for number in range(len(self.source))]
        for number, one in enumerate(self.source):
            if one.device is None and self.settings.device_id is None:
                raise ValueError(f"source {names[number]}: whose readings? give it a device, or the file one for all")
            if names.index(names[number]) != number:
                raise ValueError(f"two sources are called {names[number]}; give each its own name")
        if sum(one.kind == "stdin" for one in self.source) > 1:
            raise ValueError("there is one standard input: only one source can be of kind stdin")
        return self

    def name_of(self, number: int) -> str:
        """A source's name; places in files are remembered by it, so it is not by number where a path tells more."""
        one = self.source[number]
        if one.name:
            return one.name
        if isinstance(one, FileSource | FolderSource):
            return f"{one.kind} {one.path}"
        return one.kind if sum(each.kind == one.kind for each in self.source) == 1 else f"{one.kind}-{number + 1}"

    def device_of(self, one: SourceConfig) -> str:
        return one.device or self.settings.device_id or ""

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.device_of(one) for one in self.source))


def read_config(path: Path) -> EdgeConfig:
    """Raises `Refused` with file and key. The environment (`TELLTALE_EDGE_...`) goes before the file."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is no TOML: {error}") from None
    sources = said.pop("source", None)
    if "device" in said:
        said["device_id"] = said.pop("device")
    known = EdgeSettings.model_fields
    if unknown := [key for key in said if key not in known]:
        words = ", ".join(["device", "source", *(name for name in known if name != "device_id")])
        raise Refused(f"{path}: {unknown[0]} is not known here; known are {words}")
    for_environment = {name for name in known if f"TELLTALE_EDGE_{name.upper()}" in os.environ}
    settings = _checked(path, EdgeSettings, {k: v for k, v in said.items() if k not in for_environment})
    if sources is None:
        raise Refused(f"{path}: [[source]] is missing; producers/README.md shows one of each kind")
    whole = {"settings": settings, "folder": path.absolute().parent, "source": sources}
    config: EdgeConfig = _checked(path, EdgeConfig, whole)
    return config.model_copy(update={"source": tuple(_from_folder(one, config.folder) for one in config.source)})


def _checked(path: Path, model: type[Any], said: dict[str, Any]) -> Any:
    try:
        return model(**said) if model is EdgeSettings else model.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        kinds = {"exec", "stdin", "file", "folder", "python", "simulate"}
        where = [step for step in first["loc"] if step not in kinds]
        if model is EdgeSettings and where and where[0] not in said:  # it is the environment's
            raise Refused(f"TELLTALE_EDGE_{str(where[0]).upper()}: {_said(first)}") from None
        # People count from 1.
        place = spelled([step + 1 if isinstance(step, int) else step for step in where]).replace("device_id", "device")
        raise Refused(f"{path}: {place + ': ' if place else ''}{_said(first)}") from None


def _said(error: Any) -> str:
    if error["type"] == "union_tag_not_found":
        return 'kind is missing: "exec", "stdin", "file", "folder", "python" or "simulate"'
    if error["type"] == "union_tag_invalid":
        return f"kind must be one of {error['ctx']['expected_tags']}, got {error['ctx']['tag']!r}"
    return told(error)


def _from_folder(one: SourceConfig, folder: Path) -> SourceConfig:
    """Paths are meant from the file's folder."""
    moved = {
        name: folder / value for name in ("path", "description") if isinstance(value := getattr(one, name, None), Path)
    }
    return one.model_copy(update=moved)
