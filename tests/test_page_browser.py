"""The page in a real browser before the real server: each flow in two sizes and both schemes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from actionrec_gateway.page.files import FOLDER
from deploy.nginx import add_token
from export.learn.data import read
from testing.media import encode, numbered_frames, textured_frames, turn
from tests.helpers_gateway import Guarded, RunningGateway
from tests.helpers_page import Visit, seconds_in, visit

pytest_plugins = ("tests.fixtures_gateway", "tests.fixtures_page")
pytestmark = pytest.mark.server

SAMPLE = FOLDER / "sample.mp4"
EDGES = [0.0, 3.0, 6.0, 9.0]
LABELS = ["growing", "moving right", "rotating clockwise", "moving down"]


@pytest.fixture
def visited(browser: Browser, gateway: RunningGateway, look: str) -> Iterator[Visit]:
    """The page, open."""
    with visit(browser, gateway.url, look) as found:
        yield found
        found.check()


def test_the_first_result_and_why(visited: Visit, gateway: RunningGateway) -> None:
    """The sample gives labels, times and the frames; a label is explained over the picture."""
    page = visited.page
    visited.check()
    page.get_by_role("button", name="Use a sample").click()
    best = page.locator(".labels li").first
    expect(best).to_contain_text("growing")
    for text in ("decode", "transform", "inference", "320 × 240", "motion 1.0"):
        expect(page.locator("main")).to_contain_text(text)
    expect(page.locator(".frames li")).to_have_count(32)
    visited.check()
    page.get_by_role("button", name="Why growing?").click()
    expect(page.get_by_role("img", name=re.compile("Curve of when: slow and fast"))).to_be_visible()
    page.get_by_role("button", name=re.compile("Go to the strongest moment")).click()
    overlay = page.locator(".player canvas")
    expect(overlay).to_be_visible()
    box = page.evaluate(
        """() => { const [c, v] = [...document.querySelectorAll('.player canvas, .player video')].reverse();
        return c.getBoundingClientRect().width / v.getBoundingClientRect().width; }"""
    )
    assert box == pytest.approx(1, abs=0.01)  # it lies over the whole picture
    expect(page.locator("pre")).to_have_text(f"curl -T sample.mp4 '{gateway.url}/predictions/motion?top_k=8'")
    page.get_by_role("tab", name="Python").click()
    expect(page.locator("pre")).to_contain_text("requests.post(")
    page.keyboard.press("ArrowRight")
    expect(page.locator("pre")).to_contain_text("await fetch(")


def test_the_request_that_is_shown_is_right(browser: Browser, gateway: RunningGateway) -> None:
    """The Python that the page shows prints the labels that the page shows."""
    with visit(browser, gateway.url, "wide, light") as visited:
        page = visited.page
        page.get_by_role("button", name="Use a sample").click()
        page.get_by_role("tab", name="Python").click()
        shown = page.locator("pre").inner_text().replace('"sample.mp4"', repr(str(SAMPLE)))
        printed: list[str] = []
        exec(shown, {"print": printed.append})  # what the page tells people to run
        assert printed[0].endswith("growing")
        assert len(printed) == 8


def test_several_videos_and_one_that_is_none(visited: Visit, tmp_path: Path) -> None:
    """Several files make a table, in which a broken one costs no other its answer; a name leads to more."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all")
    page = visited.page
    page.locator("input[type=file]").first.set_input_files([SAMPLE, bad, SAMPLE])
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("growing")
    expect(rows.nth(1).locator(".failed")).not_to_be_empty()
    expect(rows.nth(2)).to_contain_text("growing")
    visited.check()
    page.get_by_role("button", name="bad.mp4").click()
    expect(page.get_by_role("alert").filter(has_text="NOT_A_VIDEO")).to_be_visible()
    page.get_by_role("button", name="Another video").click()
    expect(page.get_by_text("Drop a video here")).to_be_visible()


def test_record_from_the_camera(visited: Visit) -> None:
    """A clip that the browser records is answered like any other."""
    page = visited.page
    page.get_by_role("button", name="Record from the camera").click()
    visited.check()
    page.get_by_role("button", name="Record 3 seconds").click()
    expect(page.locator(".frames li")).to_have_count(32)
    expect(page.locator("main")).to_contain_text("camera.webm")


def test_a_timeline(visited: Visit) -> None:
    """A job's segments meet the true edges; keys go to the next, zoom, filter; files are downloaded."""
    page = visited.page
    timeline(page, SAMPLE)
    rows = page.locator(".list button")
    expect(rows).to_have_count(4)
    for row, (start, label) in enumerate(zip(EDGES, LABELS, strict=True)):
        expect(rows.nth(row)).to_contain_text(label)
        assert seconds_in(rows.nth(row).inner_text()) == pytest.approx(start, abs=0.05)
    visited.check()
    page.locator("#main").focus()
    for edge in EDGES[1:]:
        page.keyboard.press("n")
        expect(page.locator(".time")).to_have_text(re.compile(f"^0:0{edge:.2f} "))
    page.keyboard.press("p")
    page.keyboard.press("z")
    expect(page.get_by_text("0:05.7 to 0:09.3")).to_be_visible()
    page.keyboard.press("0")
    page.keyboard.press("l")
    expect(page.get_by_role("button", name="Lock to segment")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("]")
    page.keyboard.press(" ")
    page.wait_for_timeout(3000)
    page.keyboard.press(" ")
    assert 6 <= seconds_in(page.locator(".time").inner_text()) < 9.2
    page.get_by_role("combobox", name="Labels").select_option("moving down")
    expect(rows).to_have_count(1)
    texts = {}
    for form in ("JSON", "CSV", "SRT"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {form}").click()
        texts[form] = download.value.path().read_text()
    assert len(json.loads(texts["JSON"])["segments"]) == 4
    assert "moving right" in texts["CSV"]
    assert "00:00:03,000 -->" in texts["SRT"]


def test_an_address_reopens_a_timeline(
    browser: Browser, gateway: RunningGateway, tmp_path: Path, look: str
) -> None:
    """Who made it has the video too; somebody else has the result, and plays his own copy of that very file."""
    with visit(browser, gateway.url, look) as visited:
        page = visited.page
        timeline(page, SAMPLE)
        address = page.url
        page.reload()
        expect(page.locator(".list button")).to_have_count(4)
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
    other = tmp_path / "other.mp4"
    other.write_bytes(SAMPLE.read_bytes()[:-1] + b"x")
    with visit(browser, address, look) as visited:
        page = visited.page
        expect(page.locator(".list button")).to_have_count(4)
        visited.check()
        choice = page.locator("input[type=file]")
        choice.set_input_files(other)
        expect(page.get_by_role("alert").filter(has_text="another video")).to_be_visible()
        choice.set_input_files(SAMPLE)
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
        visited.check()


def test_true_seconds_at_a_variable_rate(browser: Browser, gateway: RunningGateway, tmp_path: Path) -> None:
    """Wherever one goes, the picture is that of the frame whose own time it is, and that time is shown."""
    rng = np.random.default_rng(3)
    times = np.round(np.concatenate([[0.0], np.cumsum(rng.choice([0.02, 0.03, 0.2], 150))]), 3)
    path = tmp_path / "variable.mp4"
    path.write_bytes(encode(numbered_frames(len(times)), times=[float(one) for one in times]))
    with visit(browser, gateway.url, "wide, light") as visited:
        page = visited.page
        timeline(page, path)
        goto = page.get_by_label("Go to a time")
        for wanted in (0.5, 2.345, 5.0, 7.77):
            goto.fill(str(wanted))
            goto.press("Enter")
            number = int(np.searchsorted(times, wanted, "right")) - 1
            expect(page.locator(".time")).to_have_text(re.compile(f"^0:0{times[number]:.2f} "))
            assert shown_number(page) == number
        page.locator("#main").focus()
        page.keyboard.press(".")
        expect(page.locator(".time")).to_have_text(re.compile(f"^0:0{times[number + 1]:.2f} "))
        page.keyboard.press(",")
        expect(page.locator(".time")).to_have_text(re.compile(f"^0:0{times[number]:.2f} "))


def test_a_turned_video(browser: Browser, gateway: RunningGateway, tmp_path: Path) -> None:
    """A phone's clip stands upright, in the size that the server says, and the heat lies within it."""
    path = tmp_path / "turned.mp4"
    path.write_bytes(turn(encode(textured_frames(320, 180, 70)), 90))
    with visit(browser, gateway.url, "wide, light") as visited:
        page = visited.page
        page.locator("input[type=file]").first.set_input_files(path)
        expect(page.locator("main")).to_contain_text("180 × 320")
        assert page.evaluate("(v => [v.videoWidth, v.videoHeight])(document.querySelector('video'))") == [
            180,
            320,
        ]
        page.get_by_role("button", name=re.compile("^Why")).first.click()
        page.get_by_role("button", name=re.compile("Go to the strongest")).click()
        shape = "(c => c.clientWidth / c.clientHeight)(document.querySelector('.player canvas'))"
        expect(page.locator(".player canvas")).to_be_visible()
        assert page.evaluate(shape) == pytest.approx(180 / 320, abs=0.01)


def test_teach(browser: Browser, guarded: Guarded, tmp_path: Path, look: str) -> None:
    """Spans are marked by key and by mouse, to the frame; they are kept, and go out and in again as files."""
    rng = np.random.default_rng(5)
    times = np.round(np.concatenate([[0.0], np.cumsum(rng.choice([0.02, 0.04, 0.1], 100))]), 3)
    path = tmp_path / "mine, first.mp4"
    path.write_bytes(encode(numbered_frames(len(times)), times=[float(one) for one in times]))
    with visit(browser, guarded.gateway.url + "/#/teach", look) as visited:
        page = visited.page
        page.get_by_label("Token", exact=True).fill(
            add_token(guarded.gateway.home / "tokens", f"teacher{len(look)}")
        )
        page.get_by_role("button", name="Use it").click()
        page.locator("#main input[type=file]").first.set_input_files(path)
        page.get_by_role("combobox", name="Label", exact=True).fill("waving")
        page.locator("#main").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "i"):  # faster than a frame is found
            page.keyboard.press(key)
        expect(page.locator(".time")).to_have_text(re.compile(f"^0:0{times[3]:.2f} "))
        expect(page.get_by_role("button", name=re.compile("^Begins at"))).to_contain_text(f"{times[3]:.2f}")
        for key in ("ArrowRight", "ArrowRight", "o"):
            page.keyboard.press(key)
        expect(page.get_by_text("1 in 1 video, 5 are needed")).to_be_visible()
        end = page.get_by_role("button", name=re.compile("^End 0:"))
        end.focus()
        page.keyboard.press("ArrowRight")
        expect(end).to_contain_text(f"{times[6]:.3f}")
        expect(page.get_by_text("Saved on the server")).to_be_visible()
        visited.check()
        page.get_by_role("combobox", name="Label", exact=True).fill("nodding")
        mark_by_mouse(page)
        expect(page.locator(".list button")).to_have_count(2)
        expect(page.get_by_text("Saved on the server")).to_be_visible()
        files = {}
        for name, form in (("Export CSV", "labels.csv"), ("Export for Label Studio", "labels.json")):
            with page.expect_download() as download:
                page.get_by_role("button", name=name).click()
            files[form] = tmp_path / form
            download.value.save_as(files[form])
        learned = [read(file).examples for file in files.values()]
        for parts in learned:
            waving = next(part for part in parts if part.label == "waving")
            assert waving.start_seconds == pytest.approx(times[3])
            assert waving.end_seconds == pytest.approx(times[6])
            nodding = next(part for part in parts if part.label == "nodding")
            for edge in (nodding.start_seconds, nodding.end_seconds or 0.0):
                assert min(abs(times - edge)) < 1e-6
        page.reload()
        expect(page.locator("#main")).to_contain_text("nodding")
        page.locator("#main input[type=file]").first.set_input_files(path)
        for _ in range(2):
            page.locator(".list button").first.click()
            page.get_by_role("button", name="Take it away").click()
        expect(page.locator("#main")).not_to_contain_text("5 are needed")
        for file in files.values():
            page.get_by_label("Labels", exact=True).set_input_files(file)
            expect(page.locator(".list button")).to_have_count(2)
        visited.check()


def test_live(visited: Visit) -> None:
    """The camera's windows are answered one after the other, with their latency, until it is stopped."""
    page = visited.page
    page.get_by_role("link", name="Live").click()
    visited.check()
    page.get_by_role("button", name="Start the camera").click()
    rows = page.locator("tbody tr")
    expect(rows.nth(1)).to_contain_text(re.compile(r"\d+ ms"))
    expect(page.locator(".facts")).to_contain_text("after the window's last frame")
    visited.check()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Watch the camera")).to_be_visible()
    assert page.evaluate("document.querySelector('video').srcObject") is None


def test_the_server(visited: Visit) -> None:
    """What happens while one looks is counted: answers, refusals, times."""
    page = visited.page
    page.get_by_role("link", name="Server").click()
    expect(page.locator(".tiles")).to_be_visible()
    page.evaluate(
        """async () => {
        const clip = await (await fetch('page/files/sample.mp4')).blob();
        for (const body of [clip, clip, 'no video'])
          await fetch('predictions/motion', { method: 'POST', body });
        }"""
    )
    expect(page.get_by_text("415 refused")).to_be_visible()
    expect(page.get_by_text("200 answered")).to_be_visible()
    expect(page.get_by_text("NOT_A_VIDEO")).to_be_visible()
    expect(page.locator(".tiles div").nth(1)).to_contain_text(re.compile(r"\d+ ms"))
    expect(page.get_by_text("Nobody can change this here")).to_be_visible()


def test_tokens(browser: Browser, guarded: Guarded, look: str) -> None:
    """A page without a token asks for one, says when it is wrong, and has controls for administrators."""
    with visit(browser, guarded.gateway.url + "/#/server", look) as visited:
        page = visited.page
        field = page.get_by_label("Token", exact=True)
        visited.check()
        field.fill("0000")
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_text("That token is not known")).to_be_visible()
        page.get_by_label("Token", exact=True).fill(guarded.bob["Authorization"].split()[1])
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_text("Only an administrator's token changes this")).to_be_visible()
        visited.check()
        page.get_by_role("button", name="bob").click()
        page.get_by_label("Token", exact=True).fill(guarded.ada["Authorization"].split()[1])
        page.get_by_role("button", name="Use it").click()
        page.get_by_label("Workers").fill("1")
        page.get_by_role("button", name="Scale").click()
        expect(page.locator("#said")).to_have_text("The workers are there")
        visited.check()


def test_by_keyboard_alone(browser: Browser, gateway: RunningGateway) -> None:
    """From the address to the explanation with Tab, Enter and nothing else."""
    with visit(browser, gateway.url, "wide, light") as visited:
        page = visited.page
        expect(page.get_by_role("button", name="Use a sample")).to_be_visible()
        tab_to(page, "Use a sample")
        page.keyboard.press("Enter")
        expect(page.locator(".frames li")).to_have_count(32)
        tab_to(page, "Why growing?")
        page.keyboard.press("Enter")
        expect(page.get_by_role("img", name=re.compile("Curve of when"))).to_be_visible()


def timeline(page: Page, path: Path) -> None:
    """Make a timeline of a file, and wait until it is shown."""
    page.get_by_role("link", name="Timeline").click()
    page.get_by_role("combobox", name="Look").select_option("0.5")
    page.locator("#main input[type=file]").first.set_input_files(path)
    expect(page.get_by_role("button", name="Download JSON")).to_be_visible()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()


def mark_by_mouse(page: Page) -> None:
    """Drag over the tracks with Shift held."""
    tracks = page.locator(".tracks canvas")
    tracks.scroll_into_view_if_needed()
    box = tracks.bounding_box()
    assert box is not None
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 30)
    page.mouse.up()
    page.keyboard.up("Shift")


def shown_number(page: Page) -> int:
    """What the picture that the player shows says; see `numbered_frames`."""
    return int(
        page.evaluate(
            """() => {
            const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 64 });
            const context = canvas.getContext('2d');
            context.drawImage(document.querySelector('video'), 0, 0, 64, 64);
            let number = 0;
            for (let bit = 0; bit < 9; bit++) {
              const [row, column] = [Math.floor(bit / 3), bit % 3];
              const at = context.getImageData(12 + 20 * column, 12 + 20 * row, 1, 1).data[1];
              if (at > 125) number |= 1 << bit;
            }
            return number;
            }"""
        )
    )


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with this name has the focus."""
    said = "(e => e.getAttribute('aria-label') || e.textContent)(document.activeElement)"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(said) == name:
            return
    raise AssertionError(f"Tab does not lead to {name}")
