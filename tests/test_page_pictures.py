"""The pictures of the page in the documents: made here, and held to what the page looks like now.

`UPDATE_PICTURES=1 make test T=tests/test_page_pictures.py` makes them anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from actionrec_gateway.page.files import FOLDER
from testing.motions import motion_clip
from tests.conftest import PROJECT, RunningServer
from tests.helpers_gateway import MAX_BODY_BYTES, RunningGateway, running
from tests.helpers_page import PATIENCE_MS, visit

pytest_plugins = ("tests.fixtures_page",)
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


def live(page: Page) -> None:
    """Some windows of the browser's false camera, a green field, are answered."""
    page.get_by_role("link", name="Live").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("tbody tr").nth(4)).to_be_visible()
    page.evaluate("scrollTo(0, 60)")


def taught(page: Page) -> None:
    """Six clips of each of two labels are marked, and can be learned from."""
    page.get_by_role("link", name="Teach").click()
    files: list[FilePayload] = [
        {"name": f"{label} {number}.mp4", "mimeType": "video/mp4", "buffer": motion_clip(label, number)}
        for label in ("zigzag", "circling")
        for number in range(6)
    ]
    rows = [f"{file['name']},{file['name'].split()[0]},0.2,2.1" for file in files]
    table = "\n".join(["path,label,start_seconds,end_seconds", *rows, ""])
    page.locator("#main input[type=file]").first.set_input_files(files)
    labels: FilePayload = {"name": "labels.csv", "mimeType": "text/csv", "buffer": table.encode()}
    page.get_by_label("Labels", exact=True).set_input_files(labels)
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
    page.locator(".list button").first.click()
    expect(page.get_by_role("button", name="Learn", exact=True)).to_be_enabled()
    expect(page.get_by_text("Saved on the server")).to_be_visible()
    page.wait_for_timeout(500)
    page.evaluate("scrollTo(0, document.body.scrollHeight - innerHeight)")


def server(page: Page) -> None:
    """The figures of a server that has just answered."""
    page.get_by_role("link", name="Server").click()
    expect(page.locator(".tiles")).to_be_visible()
    page.evaluate(
        """async () => {
        const clip = await (await fetch('page/files/sample.mp4')).blob();
        for (const body of [clip, clip, clip, clip, 'no video'])
          await fetch('predictions/motion', { method: 'POST', body });
        }"""
    )
    expect(page.get_by_text("NOT_A_VIDEO")).to_be_visible()
    expect(page.get_by_text("200 answered")).to_be_visible()


PICTURES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "console-try": ("wide, light", tried),
    "console-timeline": ("wide, dark", timeline),
    "console-live": ("wide, dark", live),
    "console-teach": ("wide, light", taught),
    "console-server": ("wide, light", server),
    "console-narrow": ("narrow, dark", tried),
}


@pytest.fixture(scope="module")
def school(
    tmp_path_factory: pytest.TempPathFactory, motion_server: RunningServer, motion_archive: Path
) -> Iterator[RunningGateway]:
    """A gateway that knows where the archives are, as `make serve` starts it."""
    addresses = motion_server.inference_url, motion_server.management_url
    options = ("--body-bytes", str(MAX_BODY_BYTES), "--model-store", str(motion_archive.parent))
    with running(tmp_path_factory.mktemp("school"), *addresses, *options) as found:
        yield found


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_the_page(browser: Browser, school: RunningGateway, name: str) -> None:
    """What a document shows is what the page looks like."""
    look, make = PICTURES[name]
    with visit(browser, school.url, look) as visited:
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
