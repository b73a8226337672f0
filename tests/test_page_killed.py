"""Promise: whatever the page was doing when the server was killed, it says so, keeps what it has, goes on."""

from __future__ import annotations

import io
import re
from contextlib import ExitStack
from pathlib import Path

import av
import pytest
from playwright.sync_api import Browser, expect

from actionrec_gateway.page.files import FOLDER
from tests.conftest import RunningServer
from tests.helpers_gateway import MAX_BODY_BYTES, running
from tests.helpers_jobs import free_port
from tests.helpers_page import seconds_in, visit

pytest_plugins = ("tests.fixtures_gateway", "tests.fixtures_page")
pytestmark = pytest.mark.server

SAMPLE = FOLDER / "sample.mp4"


def at_one_place(server: RunningServer) -> tuple[str, ...]:
    """Arguments of a gateway that can be started again where it was."""
    addresses = server.inference_url, server.management_url
    return (*addresses, "--body-bytes", str(MAX_BODY_BYTES), "--port", str(free_port()))


def test_the_server_goes_and_comes_back(
    browser: Browser, motion_server: RunningServer, tmp_path: Path, look: str
) -> None:
    """A server that is killed is told on the page, which keeps what it shows; when it is back, all goes on."""
    given = at_one_place(motion_server)
    with ExitStack() as stack:
        with running(tmp_path / "gateway", *given) as gateway:
            visited = stack.enter_context(visit(browser, gateway.url, look))
            page = visited.page
            page.get_by_role("button", name="Use a sample").click()
            expect(page.locator(".frames li")).to_have_count(32)
            gateway.process.kill()
            gateway.process.wait()
        notice = page.locator("#notice")
        page.get_by_role("button", name="Ask again").click()
        expect(notice).to_contain_text("The server does not answer")
        expect(page.locator(".health")).to_have_text("Server gone")
        visited.check()
        with running(tmp_path / "gateway", *given):
            expect(notice).to_be_empty()
            page.get_by_role("button", name="Try again").click()
            expect(page.locator(".labels li").first).to_contain_text("growing")
            visited.check()


def test_live_while_the_server_is_killed(
    browser: Browser, motion_server: RunningServer, tmp_path: Path
) -> None:
    """The camera stays on, what fails is counted, and results come again when the server is back."""
    given = at_one_place(motion_server)
    with ExitStack() as stack:
        with running(tmp_path / "gateway", *given) as gateway:
            visited = stack.enter_context(visit(browser, gateway.url, "narrow, dark"))
            page = visited.page
            page.get_by_role("link", name="Live").click()
            page.get_by_role("button", name="Start the camera").click()
            rows = page.locator("tbody tr")
            expect(rows.first).to_contain_text(re.compile(r"\d+ ms"))
            gateway.process.kill()
            gateway.process.wait()
        expect(page.locator("#notice")).to_contain_text("The server does not answer")
        expect(page.locator(".facts dd").last).not_to_have_text("0")
        visited.check()
        before = rows.count()
        with running(tmp_path / "gateway", *given):
            expect(rows.nth(before)).to_be_visible()
            expect(page.locator("#notice")).to_be_empty()
            visited.check()


def test_the_server_itself_while_it_is_killed(
    browser: Browser, motion_server: RunningServer, tmp_path: Path
) -> None:
    """That it is gone is said beside its last figures; when it is back, they begin at nought."""
    given = at_one_place(motion_server)
    with ExitStack() as stack:
        with running(tmp_path / "gateway", *given) as gateway:
            visited = stack.enter_context(visit(browser, gateway.url, "narrow, light"))
            page = visited.page
            page.get_by_role("link", name="Server").click()
            answered = page.locator("section.card", has_text="Answers by status")
            expect(answered).to_contain_text("None yet.")
            gateway.post("/predictions/motion", SAMPLE.read_bytes())
            expect(answered).to_contain_text("200 answered1")
            gateway.process.kill()
            gateway.process.wait()
        trouble = page.get_by_text("The server does not answer.")  # once
        expect(trouble).to_be_visible()
        expect(answered).to_contain_text("200 answered1")
        visited.check()
        with running(tmp_path / "gateway", *given) as gateway:
            expect(trouble).to_have_count(0)
            for _ in range(2):
                gateway.post("/predictions/motion", SAMPLE.read_bytes())
            expect(answered).to_contain_text("200 answered2")
            visited.check()


def test_a_timeline_whose_server_is_killed(
    browser: Browser, motion_server: RunningServer, tmp_path: Path
) -> None:
    """Segments come while the job runs; after the server was killed and started again, the rest comes too."""
    path = tmp_path / "long.mp4"
    path.write_bytes(looped(SAMPLE.read_bytes(), 9))
    given = at_one_place(motion_server)
    with ExitStack() as stack:
        with running(tmp_path / "gateway", *given) as gateway:
            visited = stack.enter_context(visit(browser, gateway.url, "wide, light"))
            page = visited.page
            page.get_by_role("link", name="Timeline").click()
            page.get_by_role("combobox", name="Look").select_option("0.5")
            page.locator("#main input[type=file]").first.set_input_files(path)
            expect(page.locator(".list button").nth(3)).to_contain_text("moving down")
            expect(page.get_by_role("button", name="Cancel")).to_be_visible()
            gateway.process.kill()
            gateway.process.wait()
        expect(page.locator("#notice")).to_contain_text("The server does not answer")
        expect(page.locator(".list button").nth(3)).to_contain_text("moving down")
        with running(tmp_path / "gateway", *given):
            expect(page.get_by_role("button", name="Download JSON")).to_be_visible()
            rows = page.locator(".list button")
            expect(rows).to_have_count(4 * 9)
            assert seconds_in(rows.nth(34).inner_text()) == pytest.approx(8 * 12 + 6, abs=0.05)
            visited.check()


def looped(video: bytes, times: int) -> bytes:
    """A video several times, one after the other."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        copy: av.VideoStream | None = None
        for number in range(times):
            with av.open(io.BytesIO(video), "r") as source:
                stream = source.streams.video[0]
                copy = copy or output.add_stream_from_template(stream)
                assert stream.duration is not None
                for packet in source.demux(stream):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts += number * stream.duration
                    packet.dts += number * stream.duration
                    packet.stream = copy
                    output.mux(packet)
    return file.getvalue()
