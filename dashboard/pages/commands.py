"""Telltale's own commands, run for somebody at a page: each in a process of its own, which does not end with the page.

What another part does (recalibrate, import) is that part's command: nothing of it is imported here.
"""

import asyncio
import os
import sys
from typing import Any

import orjson
from fastapi import Request

from dashboard.web.state import web_of
from schemas.errors import Refused, Unavailable

Process = asyncio.subprocess.Process


async def start(request: Request, words: list[str], *, who: str) -> Process:
    """`telltale WORDS`, which has to answer in JSON. LOGNAME is by what it notes its author."""
    web = web_of(request)
    env = {**os.environ, "TELLTALE_DATABASE": web.database, "LOGNAME": who}
    if web.kafka is not None:
        env["TELLTALE_KAFKA"] = web.kafka
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "infra.command", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )


async def answer(process: Process) -> dict[str, Any]:
    """What it has found. Raises `Refused` with its last words where it failed."""
    out, err = await process.communicate()
    if process.returncode:
        words = err.decode(errors="replace").strip().splitlines()
        raise Refused(words[-1].removeprefix("error: ") if words else "the command ended without a word")
    found: dict[str, Any] = orjson.loads(out)
    return found


async def answer_within(process: Process, s_max: float, *, remedy: str) -> dict[str, Any]:
    """Like `answer`; what takes longer is ended. Raises `Unavailable` with the remedy then."""
    try:
        return await asyncio.wait_for(answer(process), s_max)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable(f"this takes too long: {remedy}") from None
