"""Teach in a real browser: from marked videos to a model that is tried beside the old one.

The server, its gateway and its supervisor are those of `make serve`, and `make learn` runs for real.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from deploy import gateway
from deploy import server as deploy_server
from deploy.processes import runs
from testing.motions import motion_clip
from tests.helpers_page import PATIENCE_MS, Visit, chromium, visit
from tests.helpers_processes import command
from tests.test_server_lifecycle import Deploy

pytestmark = pytest.mark.server

LABELS = ("circling", "zigzag")
CLIPS = 6
"""Of each label, one more than it needs."""
BROKEN = "zigzag 9.mp4"
SPAN = "0,2.1"
LEARN_MS = 300_000
"""Patience with a run, which leaves the processor to all others."""
FINETUNE_MS = 1_800_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass(frozen=True)
class School:
    """A server that learns, and what it learns from."""

    deploy: Deploy
    videos: list[Path]
    labels: Path
    """The spans of all videos but the first one, as the page exports them."""

    @property
    def url(self) -> str:
        found = gateway.load(self.deploy.run_dir)
        assert found is not None
        return f"{found.url}/#/teach"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory, motion_archive: Path) -> Iterator[School]:
    """`make serve` with the `motion` model; six clips of each of two labels, and a file that is no video."""
    home = tmp_path_factory.mktemp("school")
    store, clips = home / "model_store", home / "clips"
    shutil.copytree(motion_archive.parent, store)
    clips.mkdir()
    videos = []
    for label in LABELS:
        for number in range(CLIPS):
            videos.append(clips / f"{label} {number}.mp4")
            videos[-1].write_bytes(motion_clip(label, number))
    videos.append(clips / BROKEN)
    videos[-1].write_bytes(b"no video at all")
    labels = home / "labels.csv"
    rows = [f"{path.name},{path.name.split()[0]},{SPAN}" for path in videos[1:]]
    labels.write_text("\n".join(["path,label,start_seconds,end_seconds", *rows, ""]))
    deploy = Deploy(home, store)
    started = deploy("start", "--gateway", "--gateway-port", "0", XDG_CACHE_HOME=str(home / "cache"))
    assert started.returncode == 0, started.stderr
    yield School(deploy, videos, labels)
    deploy_server.stop(deploy.run_dir, 0.0)


def test_from_marks_to_a_model_beside_the_old_one(browser: Browser, school: School) -> None:
    """Spans are marked, videos are sent, the report is shown, the model is served and tried beside its base."""
    with visit(browser, school.url, "wide, light") as visited:
        page = visited.page
        expect(page.get_by_text("Mark at least two labels")).to_be_visible()
        expect(page.get_by_role("button", name="Learn", exact=True)).to_be_disabled()
        visited.check()
        mark(page, school)
        visited.check()
        page.get_by_role("button", name="Learn", exact=True).click()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        expect(page.get_by_text(re.compile("^left out: zigzag 9.mp4: "))).to_be_visible(timeout=LEARN_MS)
        visited.check()
        expect(page.get_by_text("mine has learned them.")).to_be_visible(timeout=LEARN_MS)
        the_report(visited)
        page.get_by_role("button", name="Serve it").click()
        expect(page.get_by_text("The server takes it in.")).to_be_visible()
        page.get_by_role("button", name="Try it beside motion").click()
        expect(page.get_by_role("combobox", name="Beside it")).to_have_value("motion")
        page.locator("#main input[type=file]").first.set_input_files(school.videos[-2])
        panels = page.locator(".pair > section")
        expect(panels).to_have_count(2)
        expect(panels.nth(0)).to_contain_text("mine 1.0")
        expect(panels.nth(0).locator(".labels li").first).to_contain_text("zigzag")
        expect(panels.nth(1)).to_contain_text("motion 1.0")
        visited.check()
    assert school.deploy.state().models == ("motion", "mine")
    assert school.deploy("status").returncode == 0


def test_what_was_learned_on_a_narrow_screen(browser: Browser, school: School) -> None:
    """The outcome is there for who comes back; a name that is taken is told, and the videos can be removed."""
    with visit(browser, school.url, "narrow, dark") as visited:
        page = visited.page
        expect(page.get_by_text("mine has learned them.")).to_be_visible()
        the_report(visited)
        visited.check()
        page.get_by_role("button", name="Learn", exact=True).click()
        expect(page.get_by_role("alert").filter(has_text="NAME_TAKEN")).to_contain_text("mine-2")
        visited.check()
        page.get_by_role("button", name="Remove them").click()
        expect(page.get_by_text("neither open here nor on the server")).to_be_visible()
        visited.check()
        page.locator("#main input[type=file]").first.set_input_files(school.videos[:CLIPS])
        page.get_by_role("button", name="Take their labels away").click()
        expect(page.locator("#main")).not_to_contain_text("in 7 videos")
        expect(page.get_by_text("6 in 6 videos")).to_be_visible()
        page.get_by_label("Labels", exact=True).set_input_files(school.labels)
        expect(page.get_by_text("7 in 7 videos")).to_be_visible()
        expect(page.get_by_text("Saved on the server")).to_be_visible()
    (home,) = (school.deploy.run_dir / "gateway" / "teach").iterdir()
    assert not list((home / "videos").iterdir())


def test_a_server_that_is_killed_while_it_learns(browser: Browser, school: School) -> None:
    """What learns ends with the gateway; when that is back, the page says so, and learning begins again."""
    with visit(browser, school.url, "wide, dark") as visited:
        page = visited.page
        page.locator("#main input[type=file]").first.set_input_files(school.videos)
        page.get_by_label("Name of the new model").fill("other")
        page.get_by_role("button", name="Learn", exact=True).click()
        expect(page.get_by_text(re.compile("examples of 2 labels"))).to_be_visible(timeout=LEARN_MS)
        found = gateway.load(school.deploy.run_dir)
        assert found is not None
        parent = psutil.Process(found.process.pid)
        (learner,) = (one for one in parent.children() if "learn" in command(one))
        parent.kill()
        psutil.wait_procs([learner], timeout=PATIENCE_MS / 1000)
        assert not runs(learner)
        expect(page.get_by_text("The server ended meanwhile.")).to_be_visible()
        visited.check()
        page.get_by_role("button", name="Learn", exact=True).click()
        expect(page.get_by_text("Starting …")).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("Cancelled. What is known")).to_be_visible()
        visited.check()
    assert not list(school.deploy.store.glob(".build-*"))
    assert not (school.deploy.store / "other.mar").exists()


@pytest.mark.slow
def test_the_whole_network_learns_from_marks(browser: Browser, school: School) -> None:
    """The other method, to its end: epochs are followed, the report is shown, what it learned is served."""
    with visit(browser, school.url, "wide, light") as visited:
        page = visited.page
        mark(page, school)
        page.get_by_label("Name of the new model").fill("whole")
        page.get_by_label("What learns").select_option("finetune")
        page.get_by_role("button", name="Learn", exact=True).click()
        expect(page.get_by_text(re.compile("fold 1 of 5"))).to_be_visible(timeout=LEARN_MS)
        visited.check()
        expect(page.get_by_text("whole has learned them.")).to_be_visible(timeout=FINETUNE_MS)
        page.get_by_role("button", name="Show the report").click()
        expect(page.frame_locator("iframe").get_by_role("heading", name="whole")).to_be_visible()
        page.get_by_role("button", name="Serve it").click()
        expect(page.get_by_role("button", name="Try it beside motion")).to_be_visible()
    assert school.deploy.state().models[-1] == "whole"
    base = school.url.partition("#")[0]
    video = school.videos[0].read_bytes()
    reply = requests.post(f"{base}predictions/whole", data=video, timeout=PATIENCE_MS / 1000).json()
    assert reply["predictions"][0]["label"] == LABELS[0]


def mark(page: Page, school: School) -> None:
    """Mark the first video by key, and take the spans of the others from a file."""
    page.locator("#main input[type=file]").first.set_input_files(school.videos)
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_enabled()
    page.get_by_role("combobox", name="Label", exact=True).fill(LABELS[0])
    page.locator("#main").focus()
    page.keyboard.press("i")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(300)
    page.keyboard.press("o")
    expect(page.get_by_text("1 in 1 video, 5 are needed")).to_be_visible()
    expect(page.get_by_text("A label needs 5 different videos: circling has 1.")).to_be_visible()
    page.get_by_label("Labels", exact=True).set_input_files(school.labels)
    expect(page.get_by_text("6 in 6 videos")).to_be_visible()
    expect(page.get_by_text("7 in 7 videos")).to_be_visible()
    expect(page.get_by_role("button", name="Learn", exact=True)).to_be_enabled()


def the_report(visited: Visit) -> None:
    """It is shown in the page, with the names of the videos as people know them."""
    page = visited.page
    page.get_by_role("button", name="Show the report").click()
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", name="mine")).to_be_visible()
    expect(report.get_by_text(BROKEN)).to_be_visible()
    assert report.locator("body").evaluate("e => getComputedStyle(e).maxWidth") != "none"  # it has its style
