"""Records that are not columnar, as pydantic models. Field names are those of the `.avsc` files (a test compares).

Times are aware datetimes in UTC. A model refuses what its schema could carry but what makes no sense.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:  # within a day of the years 1 and 9999
        raise ValueError("expected a time that UTC can tell, in the years 1 to 9999") from None


Utc = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Lost = Annotated[int, Field(ge=0, lt=1 << 62)]
"""The sum of two is still an Avro long: the stage adds them up in the device's state, which must be readable again."""


class Part(BaseModel):
    """A record's part that has fields of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Record(BaseModel):
    """A record of one Avro topic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_name: ClassVar[str]


class SourceState(Part):
    """One source of readings at the edge."""

    name: str
    state: str
    detail: str = ""
    accepted: int = 0
    refused: int = 0
    restarts: int = 0


class Heartbeat(Record):
    """What an edge says about itself. Counts are readings since the spool was made; `depth` is in frames."""

    schema_name: ClassVar[str] = "heartbeat"

    device_id: str
    spool_id: str
    time: Utc
    started: Utc
    version: str
    next_sequence: int
    depth: int
    depth_bytes: int
    oldest_unsent: Utc | None = None
    accepted: int
    sent: int
    dropped: Lost
    refused: Lost
    free_disk_bytes: int
    clock_offset_s: float | None = None
    clock_synchronised: bool | None = None
    sources: tuple[SourceState, ...] = ()
    recovered: str | None = None


class Rejected(Record):
    """A record that could not be taken, with its coordinates and its bytes."""

    schema_name: ClassVar[str] = "rejected"

    topic: str
    partition: int
    offset: int
    device_id: str | None
    reason: str
    detail: str
    rows: int
    time: Utc
    payload: bytes


class ImportState(StrEnum):
    """How far a file has come."""

    FOUND = "found"
    PARSING = "parsing"
    NEEDS_AN_ANSWER = "needs an answer"  # `questions` says which
    UNKNOWN = "unknown"  # its logger or one of its columns; `reason` says how to accept it
    SENDING = "sending"  # `sent` of `rows`
    SENT = "sent"  # all of it acknowledged by the broker
    STORED = "stored"  # all of it in the database
    REFUSED = "refused"


class ImportStatus(Record):
    """State of one imported file. Rows and readings are those of the file."""

    schema_name: ClassVar[str] = "import_status"

    sha256: str
    name: str
    device_id: str | None = None
    format: str | None = None
    state: str
    rows: int = 0
    readings: int = 0
    sent: int = 0
    spool_id: str | None = None
    last_sequence: int | None = None
    reason: str | None = None
    line: int | None = None
    time: Utc
    source: str | None = None
    bytes: int = 0
    uploaded_by: str | None = None
    found: Utc | None = None
    maker: str = ""
    model: str = ""
    serial: str = ""
    table: str = ""
    program: str = ""
    signature: str = ""
    columns: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    first_time: Utc | None = None
    last_time: Utc | None = None
    missing: int = 0
    repeated: int = 0
    out_of_order: int = 0
    problems: int = 0
    questions: tuple[str, ...] = ()
    archive: str | None = None
    raw_partition: int | None = None
    raw_from: int | None = None
    raw_to: int | None = None
    rejected: int = 0
    stored: Utc | None = None
    looks_missing: tuple[str, ...] = ()
