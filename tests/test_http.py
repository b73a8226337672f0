"""Promise: over HTTP, through a real TorchServe, a clip gets its label and a bad one its own error."""

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from motion.clips import random_clip
from motion.scene import LABELS
from testing.media import encode, textured_frames
from tests.conftest import RunningServer

CLIP = random_clip(11, "moving left").data


def top(reply: requests.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["predictions"][0]["label"])


def test_eight_motions(motion_server: RunningServer) -> None:
    """Of forty new clips at least nine in ten get their labels; `make evaluate-motion` counts on 800."""
    clips = [random_clip(9000 + i, LABELS[i % 8]) for i in range(40)]
    wrong = [
        (clip.seed, clip.label, label)
        for clip in clips
        if (label := top(motion_server.predict(clip.data))) != clip.label
    ]
    assert len(wrong) <= 4, wrong


def test_reversed_clips_get_the_opposite_label(motion_server: RunningServer) -> None:
    """The same frames backwards mean the opposite motion: the order of frames is kept all the way."""
    wrong = []
    for number, label in enumerate(LABELS):
        backwards = random_clip(600 + number, label, reverse=True)
        reply = top(motion_server.predict(backwards.data))
        if reply != backwards.label:
            wrong.append((label, reply))
    assert len(wrong) <= 2, wrong


def test_raw_form_and_json_mean_the_same(motion_server: RunningServer) -> None:
    """Curl -T, curl -F and JSON with base64 get the same scores for the same clip."""
    url = motion_server.state.predict_url()
    replies = [
        requests.put(url, data=CLIP, timeout=60),
        requests.post(url, data=CLIP, headers={"Content-Type": "video/mp4"}, timeout=60),
        requests.post(url, files={"video": CLIP}, timeout=60),
        requests.post(url, files={"data": CLIP}, data={"top_k": "5"}, timeout=60),
        requests.post(url, files={"body": CLIP}, timeout=60),
        requests.post(url, json={"video": base64.b64encode(CLIP).decode()}, timeout=60),
    ]
    assert {r.status_code for r in replies} == {200}
    assert {r.headers["content-type"] for r in replies} == {"application/json"}
    scores = [[(p["label"], p["score"]) for p in r.json()["predictions"]] for r in replies]
    assert all(s == scores[0] for s in scores)


def test_options(motion_server: RunningServer) -> None:
    """top_k, start_seconds and end_seconds do over HTTP what the reference says."""
    video = encode(textured_frames(160, 120, 150))
    reply = motion_server.predict(video, top_k=2, start_seconds=1.5).json()
    assert len(reply["predictions"]) == 2
    assert reply["clip"] == {
        "start_seconds": 1.5,
        "end_seconds": 3.633,
        "source_frames": 64,
        "source_fps": 30.0,
        "width": 160,
        "height": 120,
        "codec": "h264",
        "views": {"windows": 1, "crops": 1},
    }
    short = motion_server.predict(video, start_seconds=1, end_seconds=2).json()
    assert short["clip"]["source_frames"] == 30
    assert [w["code"] for w in short["warnings"]] == ["SHORT_WINDOW"]


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"views": 65}, 400, "OPTION_OUT_OF_RANGE"),
        ({"crops": 2}, 400, "OPTION_OUT_OF_RANGE"),
        ({"stride_seconds": 0}, 400, "OPTION_OUT_OF_RANGE"),
        ({"views": 2, "stride_seconds": 1}, 400, "CONFLICTING_OPTIONS"),
        ({"topk": 3}, 400, "UNKNOWN_OPTION"),
        ({"top_k": 99}, 400, "OPTION_OUT_OF_RANGE"),
        ({"top_k": "x"}, 400, "BAD_OPTION"),
        ({"start_seconds": 500}, 400, "START_BEYOND_END"),
    ],
)
def test_bad_options(
    motion_server: RunningServer, options: dict[str, str | float], status: int, code: str
) -> None:
    """An option that is unknown or out of range is refused with its name and a hint."""
    reply = motion_server.predict(CLIP, **options)
    error = reply.json()["error"]
    assert (reply.status_code, error["status"], error["code"]) == (status, status, code)
    assert next(iter(options)) in error["message"]
    assert error["hint"]
    assert reply.json()["request_id"]


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "EMPTY_BODY"),
        (b"x", 415, "NOT_A_VIDEO"),
        (bytes(range(256)) * 256, 415, "NOT_A_VIDEO"),
        (b"<html></html>", 415, "NOT_A_VIDEO"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, "NOT_A_VIDEO"),
        (CLIP[: len(CLIP) // 2], 422, "UNREADABLE_VIDEO"),
    ],
    ids=["empty", "one byte", "noise", "html", "playlist", "cut in half"],
)
def test_bad_bodies(motion_server: RunningServer, data: bytes, status: int, code: str) -> None:
    """What is no video is refused with a code of its own, raw or in a form."""
    for reply in (
        requests.put(motion_server.state.predict_url(), data=data, timeout=60),
        requests.post(motion_server.state.predict_url(), files={"video": ("c", data)}, timeout=60),
    ):
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text


def test_one_bad_clip_in_a_batch_of_four(motion_server: RunningServer) -> None:
    """Three good clips and a broken one sent together: three labels, one error, whichever share a batch."""
    good = [random_clip(70 + i, LABELS[i]).data for i in range(3)]
    alone = [motion_server.predict(data).json()["predictions"] for data in good]
    for place in range(4):
        bodies = [*good[:place], b"broken", *good[place:]]
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(motion_server.predict, bodies))
        broken = replies.pop(place)
        assert (broken.status_code, broken.json()["error"]["code"]) == (415, "NOT_A_VIDEO")
        for reply, expected in zip(replies, alone, strict=True):
            assert reply.status_code == 200
            for got, want in zip(reply.json()["predictions"], expected, strict=True):
                assert got["label"] == want["label"]
                assert got["score"] == pytest.approx(want["score"], abs=1e-4)


def test_describe(motion_server: RunningServer) -> None:
    """The management API tells what is in the archive: recipe, labels, weights, parity and versions."""
    url = f"{motion_server.management_url}/models/motion?customized=true"
    described = requests.get(url, timeout=60).json()[0]["customizedMetadata"]
    assert described["name"] == "motion"
    assert described["labels"] == 8
    assert described["spec"]["num_frames"] == 32
    assert described["spec"]["window_seconds"] == pytest.approx(2.1333)
    assert described["weights"].startswith("sha256:")
    parity = described["forms"][0]["parity"]
    assert described["serving"]["runtime"] == described["forms"][0]["runtime"] == "aoti"
    assert parity["top1_agreement"] == 1.0
    assert parity["max_abs_score_difference"] <= parity["tolerance"]
    assert described["built_with"]["torch"]


def test_metrics(motion_server: RunningServer) -> None:
    """Decode, transform and inference times are in the Prometheus metrics."""
    assert motion_server.predict(CLIP).status_code == 200
    text = requests.get(motion_server.metrics_url, timeout=10).text
    for name in ("DecodeTime", "TransformTime", "InferenceTime"):
        assert f'{name}{{ModelName="motion"' in text


def test_a_request_is_one_line_in_the_logs(motion_server: RunningServer) -> None:
    """Logs grow by what there is to say, not by what TorchServe does with each batch."""
    logs = [motion_server.log_dir / f"{name}.log" for name in ("access_log", "ts_log", "model_log")]
    top(motion_server.predict(CLIP))
    before = [len(log.read_text().splitlines()) for log in logs]
    for _ in range(5):
        top(motion_server.predict(CLIP))

    requested, served, printed = (
        log.read_text().splitlines()[count:] for log, count in zip(logs, before, strict=True)
    )
    # TorchServe writes it before it answers.
    assert all('"POST /predictions/motion HTTP/1.1" 200' in line for line in requested), requested
    assert (len(requested), served, printed) == (5, [], [])
