"""The page in a real browser: Debian's Chromium, with a fake camera."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.conftest import PROJECT
from tests.missing import lacks

CHROMIUM = Path("/usr/bin/chromium")
AXE = PROJECT / "build/web/node_modules/axe-core/axe.min.js"
LOOKS = ("wide, light", "narrow, dark")
"""The sizes and schemes in which each flow is tried."""
_SIZES = {"wide": {"width": 1280, "height": 800}, "narrow": {"width": 390, "height": 844}}
PATIENCE_MS = 60_000
_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@dataclass
class Visit:
    """A page that is open, and what its browser has to say of it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors of scripts and of the Content-Security-Policy. Refusals that a test asks for are none."""

    def check(self) -> None:
        """What holds of every state of every part: no error, nothing for axe, nothing beyond the edge."""
        assert not self.complaints
        self.page.evaluate(_axe())
        found = self.page.evaluate("axe.run()")["violations"]
        assert not [(one["id"], [node["target"] for node in one["nodes"]]) for one in found]
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; see `lacks` for where the machine has none."""
    if not CHROMIUM.exists() or not AXE.exists():
        lacks("the page is tested with Debian's chromium and axe: scripts/setup-tests installs them")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not run as root, and all that it opens here are the project's files.
        arguments = [*_CAMERA, "--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, url: str, look: str) -> Iterator[Visit]:
    """Open the page as somebody new.

    Args:
        browser: of `chromium`.
        url: of the gateway, with or without a part of the page.
        look: size and scheme, as in `LOOKS`.
    """
    size, scheme = look.split(", ")
    options: dict[str, Any] = {"viewport": _SIZES[size], "color_scheme": scheme}
    context = browser.new_context(**options, permissions=["camera"], accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    visited = Visit(page)

    def complain(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            visited.complaints.append(message.text)

    page.on("console", complain)
    page.on("pageerror", lambda error: visited.complaints.append(str(error)))
    try:
        page.goto(url)
        yield visited
    finally:
        context.close()


@cache
def _axe() -> str:
    return AXE.read_text(encoding="utf-8")


def seconds_in(text: str) -> float:
    """Of the first time in a text: ``0:03.0``."""
    minutes, rest = re.findall(r"(\d+):(\d+\.\d+)", text)[0]
    return 60 * int(minutes) + float(rest)
