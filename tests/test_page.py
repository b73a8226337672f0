"""The page's files and the routes that only it asks."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import requests
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.decode import decode

from actionrec_client import ActionClient
from actionrec_client.timeline.long_video import LongVideo, SoFar
from actionrec_gateway.page.files import FOLDER
from testing.media import encode, numbered_frames, numbers
from tests.conftest import DEADLINE_SECONDS, RunningServer
from tests.helpers_gateway import Guarded, RunningGateway
from tests.test_gateway_through import error_of

pytest_plugins = ("tests.fixtures_gateway",)
pytestmark = pytest.mark.server

SAMPLE = (FOLDER / "sample.mp4").read_bytes()
MOST_BYTES = 200_000


def test_the_page_is_small_and_has_nothing_from_elsewhere() -> None:
    """No file is loaded from another address, and all files together are below 200 KB."""
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for path in files:
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text(encoding="utf-8")
            pattern = r"""(?:src|href)=["']([^"'$]+)|^import .*from ["']([^"']+)|url\(["']([^"']+)"""
            loaded = re.findall(pattern, text, re.MULTILINE)
            for address in (one for found in loaded for one in found if one):
                assert re.match(r"\./|#|page/files/", address), (path.name, address)


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=1.0, br", True), ("*;q=0.1, gzip", True)]
    + [(one, False) for one in ("identity", "gzip;q=0", "gzip; q=0.00, br", "xgzip", "")],
)
def test_text_is_sent_packed_to_whoever_takes_it(gateway: RunningGateway, accepted: str, packed: bool) -> None:
    """By gzip where the browser says so, with a tag of its own; what it unpacks is the file."""
    for name in ("main.js", "style.css", "sample.mp4"):
        reply = gateway.get(f"/page/files/{name}", headers={"Accept-Encoding": accepted})
        assert reply.content == (FOLDER / name).read_bytes()
        whether = packed and name != "sample.mp4"
        assert reply.headers.get("content-encoding") == ("gzip" if whether else None)
        assert reply.headers["vary"] == "Accept-Encoding"
        assert reply.headers["etag"].endswith('-gzip"') == whether
        known = {"If-None-Match": reply.headers["etag"]}
        again = gateway.get(f"/page/files/{name}", headers={**known, "Accept-Encoding": accepted})
        assert (again.status_code, again.content) == (304, b"")
        other = gateway.get(
            f"/page/files/{name}", headers={**known, "Accept-Encoding": "br" if packed else "gzip"}
        )
        assert other.status_code == (304 if name == "sample.mp4" else 200)


def test_a_strict_policy_and_a_tag(gateway: RunningGateway) -> None:
    """Each file comes with a policy that allows the page's own files alone, and is sent once."""
    for address in ("/", "/page/files/main.js", "/page/files/style.css", "/page/files/sample.mp4"):
        reply = gateway.get(address)
        assert reply.status_code == 200
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers["x-content-type-options"] == "nosniff"
        again = gateway.get(address, headers={"If-None-Match": reply.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert error_of(gateway.get("/page/files/nothing.js")) == (404, "NOT_FOUND")
    assert gateway.get("/page/files/..%2froutes.py").status_code == 404


def test_the_page_is_open_and_what_it_asks_is_not(guarded: Guarded) -> None:
    """Without a token the page itself comes, so that it can ask for one; nothing that it shows does."""
    for address in ("/", "/page/files/main.js"):
        assert guarded.gateway.get(address).status_code == 200
    for address in ("/page/session", "/page/models", "/page/jobs/" + 32 * "0"):
        assert error_of(guarded.gateway.get(address)) == (401, "UNAUTHORIZED")
    assert error_of(guarded.gateway.post("/page/frames?model=motion", SAMPLE)) == (401, "UNAUTHORIZED")


def test_who_looks(guarded: Guarded, gateway: RunningGateway) -> None:
    """The page knows whose token it has, and whether that is an administrator's."""
    ada = guarded.gateway.get("/page/session", headers=guarded.ada).json()
    bob = guarded.gateway.get("/page/session", headers=guarded.bob).json()
    assert (ada["client"], ada["administrator"], ada["tokens"]) == ("ada", True, True)
    assert (bob["client"], bob["administrator"], bob["tokens"]) == ("bob", False, True)
    nobody = gateway.get("/page/session").json()
    assert (nobody["client"], nobody["administrator"], nobody["tokens"]) == ("", False, False)


def test_what_is_served(gateway: RunningGateway) -> None:
    """The models with their recipe and workers, for whoever may ask."""
    (model,) = gateway.get("/page/models").json()
    assert (model["name"], model["version"], model["default"], model["labels"]) == ("motion", "1.0", True, 8)
    assert (model["frames"], model["window_seconds"]) == (32, 2.1333)
    assert model["workers"] == [{"status": "READY", "device": "cpu"}]


def test_the_frames_are_those_of_the_model(gateway: RunningGateway) -> None:
    """Of a video with a variable frame rate come the frames, with their times, that serving samples."""
    rng = np.random.default_rng(7)
    times = np.cumsum(rng.uniform(0.01, 0.09, 120)) - 0.01
    video = encode(numbered_frames(120), times=[float(one - times[0]) for one in times])
    reply = gateway.post("/page/frames?model=motion&start_seconds=1", video)
    assert reply.status_code == 200, reply.text
    sheet = reply.json()
    spec = ClipSpec(short_side=128, crop=128)
    wanted = decode(video, spec, 1.0)
    assert sheet["seconds"] == [round(one, 3) for one in wanted.frame_seconds]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(sheet["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    edge, columns = sheet["edge"], sheet["columns"]
    shown = [
        picture[row : row + edge, column : column + edge]
        for row in range(0, picture.shape[0], edge)
        for column in range(0, columns * edge, edge)
    ]
    assert numbers(_small(shown)) == numbers(_small(wanted.rounded()))


def _small(frames: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    resized = [cv2.resize(one, (64, 64), interpolation=cv2.INTER_AREA) for one in frames]
    return np.stack(resized).astype(np.uint8)


@pytest.mark.parametrize(
    ("body", "query", "error"),
    [
        (b"", "model=motion", (400, "EMPTY_BODY")),
        (b"no video at all", "model=motion", (415, "NOT_A_VIDEO")),
        (SAMPLE, "model=nothing", (404, "MODEL_NOT_FOUND")),
        (SAMPLE, "model=motion&start_seconds=99", (400, "START_BEYOND_END")),
        (SAMPLE, "model=motion&start_seconds=-1", (422, "BAD_REQUEST")),
    ],
)
def test_frames_of_no_clip(gateway: RunningGateway, body: bytes, query: str, error: tuple[int, str]) -> None:
    """What has no frames is refused in the form that all errors have."""
    assert error_of(gateway.post(f"/page/frames?{query}", body)) == error


def test_the_default_version_is_for_administrators(guarded: Guarded) -> None:
    """An administrator makes a version the default one; others may not, and it must be there."""
    address = guarded.gateway.url + "/management/models/motion/{}/default"
    assert error_of(requests.put(address.format("1.0"), headers=guarded.bob, timeout=60)) == (403, "FORBIDDEN")
    assert requests.put(address.format("1.0"), headers=guarded.ada, timeout=60).status_code == 200
    missing = requests.put(address.format("9.9"), headers=guarded.ada, timeout=60)
    assert error_of(missing) == (404, "MODEL_NOT_FOUND")


def test_another_ones_job_is_none(guarded: Guarded) -> None:
    """What is known of a running job is its client's alone."""
    made = guarded.gateway.post("/jobs?stride_seconds=1", SAMPLE, headers=guarded.bob).json()
    address = f"/page/jobs/{made['id']}"
    assert guarded.gateway.get(address, headers=guarded.bob).status_code == 200
    assert error_of(guarded.gateway.get(address, headers=guarded.ada)) == (404, "JOB_NOT_FOUND")


def test_a_timeline_comes_part_by_part(motion_server: RunningServer) -> None:
    """What is known after a part is the beginning of the whole: the same windows, at the same times."""
    client = ActionClient(motion_server.inference_url, management_url=motion_server.management_url)
    parts: list[list[Any]] = []

    def keep(so_far: SoFar) -> None:
        parts.append(so_far()["timeline"])

    video = LongVideo(client, Selection(stride_seconds=0.1), 3, None, 1, None, on_part=keep)
    whole = video.timeline(FOLDER / "sample.mp4").raw["timeline"]
    assert [len(one) for one in parts] == [64, len(whole)]
    assert parts[0] == whole[:64]


def test_labels_are_kept_for_each_client(guarded: Guarded) -> None:
    """What one has marked is there again for him alone; a change of an old state is refused."""
    address = guarded.gateway.url + "/page/labels"
    span = {"video": "a, b.mp4", "label": "waving", "start_seconds": 0.5, "end_seconds": 2.125}

    def put(revision: int, spans: list[dict[str, Any]]) -> requests.Response:
        sent = {"revision": revision, "spans": spans}
        return requests.put(address, json=sent, headers=guarded.ada, timeout=DEADLINE_SECONDS)

    before = requests.get(address, headers=guarded.ada, timeout=DEADLINE_SECONDS).json()["revision"]
    assert put(before, [span]).json() == {"revision": before + 1, "spans": [span]}
    assert error_of(put(before, [])) == (409, "LABELS_CHANGED")
    assert error_of(put(before + 1, [{**span, "end_seconds": 0.5}])) == (422, "BAD_REQUEST")
    assert error_of(put(before + 1, [{**span, "label": ""}])) == (422, "BAD_REQUEST")
    kept = requests.get(address, headers=guarded.ada, timeout=DEADLINE_SECONDS).json()
    assert kept == {"revision": before + 1, "spans": [span]}
    others = requests.get(address, headers=guarded.bob, timeout=DEADLINE_SECONDS).json()
    assert others == {"revision": 0, "spans": []}
    assert error_of(requests.get(address, timeout=DEADLINE_SECONDS)) == (401, "UNAUTHORIZED")
