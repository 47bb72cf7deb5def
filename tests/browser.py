"""A real browser for tests of the page: the system's Chromium, driven by playwright; skips where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.patience import LONGEST_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LONGEST_MS = LONGEST_S * 1e3


@dataclass
class Seen:
    """What the browser did while the page was open."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


@dataclass
class Tab:
    """An open page and what was seen of it."""

    page: Page
    seen: Seen


def chromium() -> str:
    """Path of a Chromium; skips the test where none is installed."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser for the tests of one module."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS), timeout=_LONGEST_MS)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, path: Path, *, dark: bool = False, width: int = 1180) -> Iterator[Tab]:
    """Open a file in a context of its own."""
    context = browser.new_context(color_scheme="dark" if dark else "light", viewport={"width": width, "height": 900})
    context.set_default_timeout(_LONGEST_MS)
    page, seen = context.new_page(), Seen()

    def dismiss(dialog: Dialog) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.console.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("dialog", dismiss)
    page.goto(path.as_uri())
    yield Tab(page, seen)
    context.close()
