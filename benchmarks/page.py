"""A timeline of 500 segments in the browser: how long a frame takes while it is zoomed and scrolled.

    python -m benchmarks.page

It needs Debian's chromium and Playwright (`pip install '.[dev]'`), and no engine: the replies are made here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from playwright.sync_api import Page, Route, sync_playwright

_SEGMENTS = 500
_LABELS = 24
_SECONDS = 3600.0
_JOB = "0" * 32
_STEPS = 120
_MEASURE = """async (steps) => {
  const canvas = document.querySelector('.tracks canvas');
  const box = canvas.getBoundingClientRect();
  const list = document.querySelector('.list');
  const times = [];
  for (let step = 0; step < steps; step++) {
    const began = performance.now();
    const clientX = box.left + box.width / 2;
    const deltaY = step % 40 < 20 ? -60 : 60;
    canvas.dispatchEvent(new WheelEvent('wheel', { ctrlKey: true, cancelable: true, clientX, deltaY }));
    list.scrollTop = (list.scrollHeight * step) / steps;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b);
}"""


def _reply() -> dict[str, object]:
    length = _SECONDS / _SEGMENTS
    labels = [f"label {number}" for number in range(_LABELS)]
    segments = [
        {
            "label": labels[number * 7 % _LABELS],
            "class_index": number * 7 % _LABELS,
            "start_seconds": number * length,
            "end_seconds": (number + 1) * length,
            "score": 0.8,
        }
        for number in range(_SEGMENTS)
    ]
    timeline = [
        {
            "start_seconds": float(at),
            "end_seconds": at + 2.133,
            "warnings": [],
            "predictions": [
                {
                    "label": labels[(at + rank) % _LABELS],
                    "class_index": (at + rank) % _LABELS,
                    "score": 0.5 / (rank + 1),
                }
                for rank in range(5)
            ],
        }
        for at in range(int(_SECONDS) - 3)
    ]
    clip = {"start_seconds": 0.0, "end_seconds": _SECONDS, "source_frames": 1, "source_fps": 30.0, "width": 8}
    page = {"offset": 0, "windows": len(timeline), "of": len(timeline), "next": None}
    cuts = [segment["start_seconds"] for segment in segments[::3]]
    return {
        "predictions": [],
        "segments": segments,
        "cuts": cuts,
        "timeline": timeline,
        "clip": {**clip, "height": 8},
        "page": page,
    }


def _answer(page: Page) -> None:
    job = {
        "id": _JOB,
        "state": "done",
        "model": "motion",
        "options": {"stride_seconds": 1},
        "source": {"bytes": 1},
        "progress": {"windows": 1, "of": 1, "seconds_left": 0},
        "note": None,
        "error": None,
    }

    def as_json(value: object) -> object:
        def give(route: Route) -> None:
            route.fulfill(body=json.dumps(value), content_type="application/json")

        return give

    page.route("**/page/models", as_json([]))  # type: ignore[arg-type]
    page.route(f"**/jobs/{_JOB}", as_json(job))  # type: ignore[arg-type]
    page.route(f"**/jobs/{_JOB}/results*", as_json(_reply()))  # type: ignore[arg-type]


def main() -> None:
    """Print the times of a frame."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "actionrec_gateway", "--port", "0", "--run-dir", home]
        with subprocess.Popen(
            [*command, "--log-file", f"{home}/log"], stdout=subprocess.PIPE, text=True
        ) as gateway:
            assert gateway.stdout is not None
            url = json.loads(gateway.stdout.readline())["url"]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                _answer(page)
                page.goto(f"{url}/#/timeline/{_JOB}")
                page.locator(".list button").nth(_SEGMENTS - 1).wait_for(state="attached")
                times = page.evaluate(_MEASURE, _STEPS)
                browser.close()
            gateway.terminate()
    median, most = times[len(times) // 2], times[int(len(times) * 0.99)]
    sys.stdout.write(f"{_SEGMENTS} segments: a frame takes {median:.1f} ms, 99 of 100 {most:.1f} ms\n")


if __name__ == "__main__":
    main()
