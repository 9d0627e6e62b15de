"""Who is at this shell, as records of what people did have it. The audit log asks the system itself."""

import getpass
import os


def caller() -> str:
    """The account's name; of a container's number without a name, that. A page that runs a command for somebody says
    his name by LOGNAME."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
