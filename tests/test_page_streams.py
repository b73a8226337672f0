"""Promise: the page watches a stream by its address, and says how it goes and how it ends."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import DEADLINE_SECONDS
from tests.helpers_gateway import RunningGateway
from tests.helpers_live import Watching, no_readers, readers
from tests.helpers_page import visit
from tests.helpers_processes import command
from tests.helpers_slow import live_http
from tests.streams import motion_video

pytest_plugins = ("tests.fixtures_gateway", "tests.fixtures_live", "tests.fixtures_page")
pytestmark = pytest.mark.server

ADDRESS = "Or the address of a stream that the server may fetch"


def test_a_stream_by_its_address(browser: Browser, watching: Watching, look: str) -> None:
    """Labels, latency and the newest picture come with each result; stopped, the server reads no more."""
    video = motion_video("moving up", container="mpegts", seconds_each=30)
    with live_http(video, 30) as camera:
        gateway = watching(camera)
        with visit(browser, gateway.url + "/#/live", look) as visited:
            page = visited.page
            page.get_by_label(ADDRESS).fill(camera)
            page.get_by_role("button", name="Watch it").click()
            expect(page.locator(".caption")).to_contain_text("moving up")
            expect(page.locator("tbody tr").nth(1)).to_contain_text(re.compile(r"moving up.*\d+ ms"))
            picture = page.get_by_alt_text("Newest picture of the stream")
            expect(picture).to_be_visible()
            assert picture.evaluate("one => [one.naturalWidth, one.naturalHeight]") == [320, 240]
            visited.check()
            page.get_by_label("A result every").select_option("0.5")
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not any(
                '"interval_seconds": 0.5' in word for one in readers(gateway) for word in command(one)
            ):
                assert time.monotonic() < deadline
                page.wait_for_timeout(100)
            expect(page.locator("tbody tr").nth(1)).to_be_visible()
            page.get_by_role("button", name="Stop").click()
            expect(page.get_by_text("Watch the camera")).to_be_visible()
            no_readers(gateway)
            visited.check()


def test_what_cannot_be_watched(browser: Browser, watching: Watching) -> None:
    """An address that is not allowed, and a server that is gone, are told in words, and can be tried again."""
    video = motion_video("moving up", container="mpegts", seconds_each=30)
    with live_http(video, 30) as camera:
        gateway = watching(camera)
        with visit(browser, gateway.url + "/#/live", "narrow, dark") as visited:
            page = visited.page
            page.get_by_label(ADDRESS).fill("http://example.org/stream")
            page.get_by_role("button", name="Watch it").click()
            expect(page.locator("#main")).to_contain_text("is not among what this server may fetch")
            visited.check()
            page.get_by_label(ADDRESS).fill(camera)
            page.get_by_role("button", name="Watch it").click()
            expect(page.locator(".caption")).to_contain_text("moving up")
            gateway.process.kill()
            gateway.process.wait()
            expect(page.locator("#notice")).to_contain_text("The server does not answer")
            expect(page.get_by_role("button", name="Try again")).to_be_visible()
            visited.check()


def test_nothing_is_offered_that_is_not_allowed(gateway: RunningGateway, browser: Browser) -> None:
    """Where nothing may be fetched there is no field for an address."""
    with visit(browser, gateway.url + "/#/live", "wide, light") as visited:
        expect(visited.page.get_by_role("button", name="Start the camera")).to_be_visible()
        expect(visited.page.get_by_label(ADDRESS)).to_be_hidden()
