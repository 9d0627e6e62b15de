"""Whether the operating system calls its clock synchronised. Knows Linux's adjtimex; None elsewhere."""

import ctypes
import sys
from functools import cache
from typing import Any

TIME_ERROR = 5  # "clock not synchronized", the result of adjtimex(2)
TIMEX_BYTES = 256  # larger than struct timex anywhere; mode 0 (the first word) only reads


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def synchronised() -> bool | None:
    """None where the system cannot be asked."""
    if sys.platform != "linux":
        return None
    try:
        state = _libc().adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != TIME_ERROR
