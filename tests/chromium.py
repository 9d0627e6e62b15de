"""The machine's Chromium, driven by Playwright; nothing is downloaded. For browser tests and for what they measure."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]


def found() -> str | None:
    """Where the browser is."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def launched(*flags: str) -> Iterator[Any]:
    """A running browser. Ask `found` first."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found(), args=[*FLAGS, *flags])
        yield running
        running.close()
