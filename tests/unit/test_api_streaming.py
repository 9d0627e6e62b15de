"""What a streamed answer holds (a seat, its rows) is given back however it ends. No server, no database."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from dashboard.api.data import Streamed
from dashboard.api.stream import EventStream
from dashboard.web.limits import AtOnce

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}
Answer = Callable[[AsyncGenerator[bytes, None], AsyncExitStack], Any]


def rows(rest: AsyncGenerator[bytes, None], held: AsyncExitStack) -> Any:
    return Streamed(b"first", rest, held, media_type="text/csv", headers={})


ANSWERS = pytest.mark.parametrize("answer", [rows, EventStream], ids=["rows", "events"])


def streamed(answer: Answer, *, gone_after: int | None) -> tuple[list[bytes], int, list[str]]:
    """(what arrived, seats that are still taken, what the rows did) of a client that is gone after so many pieces."""
    seats, arrived, did = AtOnce("data streams", of_one=4, of_all=4), [], []
    gone = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            for number in range(3):
                yield str(number).encode()
                await asyncio.sleep(0)
        finally:
            did.append("closed")

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message.get("body"):
            arrived.append(message["body"])
        if gone_after is not None and len(arrived) >= gone_after:
            gone.set()
            await asyncio.sleep(0)

    async def work() -> None:
        if gone_after == 0:
            gone.set()
        async with AsyncExitStack() as held:
            held.enter_context(seats.one_more("notebook"))
            rest = pieces()
            await anext(rest)  # as routes do, to see trouble at once
            held.push_async_callback(rest.aclose)
            made = answer(rest, held.pop_all())
        await made(SCOPE, receive, send)

    asyncio.run(work())
    return arrived, seats.open, did


@ANSWERS
@pytest.mark.parametrize("gone_after", [0, 1, None])
def test_a_seat_is_given_back_however_early_its_client_goes(answer: Answer, gone_after: int | None) -> None:
    arrived, taken, did = streamed(answer, gone_after=gone_after)
    assert (taken, did) == (0, ["closed"])
    if gone_after is None:
        assert arrived[-2:] == [b"1", b"2"]
