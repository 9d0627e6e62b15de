"""One message to all pages, in bounded memory. No socket."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dashboard.live.hub import QUEUED_MAX, Hub


def run(work: Callable[[Hub], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        hub = Hub(lambda full: b"all" if full else b"alarms")
        hub.open()
        await asyncio.wait_for(work(hub), 10)

    asyncio.run(all_of_it())


async def heard(messages: object, count: int) -> list[bytes]:
    return [await anext(messages) for _ in range(count)]  # type: ignore[call-overload]


def test_a_page_gets_the_whole_picture_and_then_what_changes() -> None:
    async def work(hub: Hub) -> None:
        async with hub.page(full=True) as full, hub.page(full=False) as light:
            hub.publish(b"1", None)
            hub.publish(b"2", b"2'")
            assert await heard(full, 3) == [b"all", b"1", b"2"]
            assert await heard(light, 2) == [b"alarms", b"2'"]

    run(work)


def test_a_page_that_does_not_read_gets_the_picture_again_and_keeps_nobody_waiting() -> None:
    async def work(hub: Hub) -> None:
        async with hub.page(full=True) as slow, hub.page(full=True) as quick:
            assert await heard(quick, 1) == [b"all"]
            for number in range(3 * QUEUED_MAX + 2):
                hub.publish(b"%d" % number, None)
                assert await heard(quick, 1) == [b"%d" % number]
            first, *rest = await heard(slow, 2)
            assert first == b"all"
            assert int(rest[0]) >= QUEUED_MAX
            assert hub.restarts >= 1

    run(work)


def test_closing_ends_every_page() -> None:
    async def work(hub: Hub) -> None:
        async with hub.page(full=True) as messages:
            hub.close()
            with pytest.raises(StopAsyncIteration):
                await anext(messages)
            hub.publish(b"late", None)

    run(work)


def test_a_page_that_left_is_forgotten() -> None:
    async def work(hub: Hub) -> None:
        async with hub.page(full=True):
            assert len(hub) == 1
        assert len(hub) == 0

    run(work)
