"""Why a record was not taken: the word in `readings.rejected`, in logs and in metrics."""

from enum import StrEnum

from schemas.columnar import Unread


class Rejection(StrEnum):
    """Reasons beside those of `Unread` (the bytes are not a record)."""

    UNKNOWN_DEVICE = "unknown_device"
    UNKNOWN_CHANNEL = "unknown_channel"
    WRONG_KEY = "wrong_key"  # the record's key is not its device
    UNSIGNED = "unsigned"  # of a device that must sign
    WRONG_SIGNATURE = "wrong_signature"  # not made with a key of the device's, or over something else
    ENDED_KEY = "ended_key"  # signed with a key that was replaced or revoked
    TOO_LARGE = "too_large"  # of a batch that unpacks to more than is taken
    REPEATED_CHANNEL = "repeated_channel"
    REPEATED_TIME = "repeated_time"  # a later row of the frame has the same time
    TIME_IN_FUTURE = "time_in_future"
    TIME_BEFORE_DEVICE = "time_before_device"
    OUR_ERROR = "our_error"  # processing threw: our bug, kept for a retry after the fix
    DATABASE_REFUSED = "database_refused"
    OLDER_THAN_RETENTION = "older_than_retention"  # rows that the database does not keep any more


UNREADABLE = "unreadable_"


FORGED = frozenset({Rejection.WRONG_KEY, Rejection.UNSIGNED, Rejection.WRONG_SIGNATURE, Rejection.ENDED_KEY})
"""Records that are not what their sender says they are."""
UNUSABLE = frozenset(
    {
        Rejection.UNKNOWN_DEVICE,
        Rejection.TOO_LARGE,
        Rejection.DATABASE_REFUSED,
        Rejection.OLDER_THAN_RETENTION,
    }
)
"""What no rule of a device counts, beside what cannot be read: its device is not known, or the sink refused it."""


def unread(reason: Unread) -> str:
    """The word for a record that could not be read."""
    return f"{UNREADABLE}{reason}"


def is_unusable(reason: str) -> bool:
    """Whether nobody but the watchdog can tell of what was rejected for this reason."""
    return reason.startswith(UNREADABLE) or reason in UNUSABLE
