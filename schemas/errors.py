"""The two kinds of trouble that a person can do something about; everything else is our bug and crashes.

The root command prints the message in one line, without a traceback, and exits with `exit_code`.
A message says what, expected, got, where: `device mast-7: channel "Spd80" slope must not be 0 (mast.json, line 41)`.
"""


class Refused(Exception):  # noqa: N818 - named after what an operator sees, not after a pattern
    """Input that cannot be taken: a file, an option, a name. Nothing was half done."""

    exit_code = 2


class Unavailable(Exception):  # noqa: N818
    """A neighbour (broker, database, disk) that does not answer, or not in time."""

    exit_code = 1
