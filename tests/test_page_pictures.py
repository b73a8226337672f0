"""The pictures of the page in the documents: made here, and held to what the page looks like now.

`UPDATE_PICTURES=1 make test T=tests/test_page_pictures.py` makes them anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Browser, Page, expect

from actionrec_gateway.page.files import FOLDER
from tests.conftest import PROJECT
from tests.helpers_gateway import RunningGateway
from tests.helpers_page import PATIENCE_MS, chromium, visit

pytest_plugins = ("tests.fixtures_gateway",)
pytestmark = pytest.mark.server

SAMPLE = FOLDER / "sample.mp4"
CELLS = (48, 30)
"""What is compared: shapes and shades, and neither letters nor figures, which differ from run to run."""
MOST_DIFFERENCE = 6.0
"""Of 255, in the mean."""


def tried(page: Page) -> None:
    """A label of the sample, and why."""
    page.get_by_role("button", name="Use a sample").click()
    expect(page.locator(".frames li")).to_have_count(32)
    page.get_by_role("button", name="Why growing?").click()
    page.get_by_role("button", name=re.compile("Go to the strongest")).click()
    page.wait_for_timeout(500)
    page.evaluate("scrollTo(0, 140)")


def timeline(page: Page) -> None:
    """The sample's timeline, in its second segment."""
    page.get_by_role("link", name="Timeline").click()
    page.get_by_role("combobox", name="Look").select_option("0.5")
    page.locator("#main input[type=file]").first.set_input_files(SAMPLE)
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
    page.locator(".list button").nth(1).click()
    page.wait_for_timeout(500)
    page.evaluate("scrollTo(0, 170)")


def server(page: Page) -> None:
    """The figures of a server that has just answered."""
    page.get_by_role("link", name="Server").click()
    expect(page.locator(".tiles")).to_be_visible()
    page.evaluate(
        """async () => {
        const clip = await (await fetch('page/files/sample.mp4')).blob();
        for (let one = 0; one < 4; one++) await fetch('predictions/motion', { method: 'POST', body: clip });
        }"""
    )
    expect(page.get_by_text("200 answered")).to_be_visible()


PICTURES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "console-try": ("wide, light", tried),
    "console-timeline": ("wide, dark", timeline),
    "console-server": ("wide, light", server),
    "console-narrow": ("narrow, dark", tried),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser."""
    with chromium() as found:
        yield found


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_the_page(browser: Browser, gateway: RunningGateway, name: str) -> None:
    """What a document shows is what the page looks like."""
    look, make = PICTURES[name]
    with visit(browser, gateway.url, look) as visited:
        visited.page.set_default_timeout(PATIENCE_MS)
        make(visited.page)
        now = visited.page.screenshot()
    path = PROJECT / "docs" / f"{name}.png"
    if os.environ.get("UPDATE_PICTURES"):
        path.write_bytes(now)
    shown = cv2.imread(str(path))
    assert shown is not None
    made = cv2.imdecode(np.frombuffer(now, np.uint8), cv2.IMREAD_COLOR)
    assert made is not None
    assert made.shape == shown.shape
    assert np.abs(_coarse(made) - _coarse(shown)).mean() < MOST_DIFFERENCE


def _coarse(picture: npt.NDArray[np.integer | np.floating]) -> npt.NDArray[np.float64]:
    return cv2.resize(picture, CELLS, interpolation=cv2.INTER_AREA).astype(np.float64)
