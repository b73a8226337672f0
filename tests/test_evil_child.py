"""Promise: a decoding child that a video has taken over gives nothing away, and has nobody believe what cannot
be.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from actionrec.errors import ClipError
from actionrec.problems import error_from_wire, problem, to_wire, warning, warning_from_wire
from actionrec.sampling import FIRST_WINDOW, Selection
from actionrec.sandbox import Sandbox, child_process
from actionrec.sandbox.child import described
from actionrec.sandbox.stderr import safe_lines
from actionrec.video.decode import windows

from testing.media import encode, textured_frames
from tests.conftest import PROJECT
from tests.helpers_sandbox import CLIP, LIMITS, SPEC

HONEST = {
    "window": {
        "start_seconds": 0.0,
        "end_seconds": 2.1,
        "source_frames": 64,
        "source_fps": 30.0,
        "width": 160,
        "height": 120,
        "codec": "h264",
        "warnings": [],
        "shot_boundaries": [],
        "frame_seconds": [0.0] * 32,
        "window": 0,
        "crop": 0,
        "missing": False,
    }
}
METRIC = "[METRICS]made_up.Gauge:1|#Level:Host|#hostname:x"
SHORT = to_wire(warning("short_window", covered_seconds=1.0, window_seconds=2.0, frames=3, num_frames=32))


@pytest.fixture(scope="module")
def evil() -> Iterator[Sandbox]:
    """Children that say what a video's bytes tell them to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT))
        patch.setattr(child_process, "_ENDING_SECONDS", 0.05)  # liars do not end by themselves
        with Sandbox(SPEC, LIMITS, 2, "tests.troubled_child") as running:
            yield running


def say(*messages: object) -> bytes:
    """A video that has its child say these messages, as JSON or, where they are bytes, as they are."""
    return b"SAY " + b"\n".join(m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages)


def window(**changed: object) -> dict[str, Any]:
    """What an honest child says of a window, with other values."""
    return {"window": HONEST["window"] | changed}


LIES: dict[str, tuple[object, ...]] = {
    "a number as text": (window(start_seconds="0.0"),),
    "nan as text": (window(end_seconds="nan"),),
    "inf as text": (window(end_seconds="inf"),),
    "digits of another script": (window(width="٣"),),
    "NaN": (json.dumps(HONEST).replace("2.1", "NaN").encode(),),
    "Infinity": (json.dumps(HONEST).replace("2.1", "Infinity").encode(),),
    "1e999": (json.dumps(HONEST).replace("2.1", "1e999").encode(),),
    "below zero": (window(start_seconds=-1.0),),
    "a whole number for seconds": (window(start_seconds=0),),
    "a fraction for a count": (window(source_frames=64.0),),
    "a truth for a count": (window(source_frames=True),),
    "a count for a truth": (window(missing=0),),
    "null": (window(width=None),),
    "more frames than there may be": (window(source_frames=100_001),),
    "a million years": (window(start_seconds=1e13, end_seconds=1e13),),
    "a side beyond any picture": (window(width=1 << 40),),
    "4,300 digits and more": (json.dumps(HONEST).replace("64", "9" * 4400, 1).encode(),),
    "a field more": (window(body="the bytes of another client's video"),),
    "a field less": ({"window": {k: v for k, v in HONEST["window"].items() if k != "shot_boundaries"}},),
    "no object": ({"window": [1, 2, 3]},),
    "a codec with markup": (window(codec="<b>h264"),),
    "a codec without an end": (window(codec="h" * 33),),
    "a codec that is none": (window(codec=None),),
    "a list of lists": ([[[[]]]],),
    "deeper than Python goes": (b"[" * 60_000,),
    "another window than the first": (window(window=1),),
    "another crop than there is": (window(crop=1),),
    "a window twice": (HONEST, HONEST),
    "windows beyond the limit": tuple(window(window=number) for number in range(65)),
    "cuts that are no list": (window(shot_boundaries={"0": 1.0}),),
    "more cuts than frames": (window(shot_boundaries=[1.0] * 33),),
    "times that are no list": (window(frame_seconds=1.0),),
    "fewer times than frames": (window(frame_seconds=[1.0] * 31),),
    "a time that is text": (window(frame_seconds=["1.0"] * 32),),
    "a cut that is text": (window(shot_boundaries=["1.0"]),),
    "warnings that are text": (window(warnings="SHORT_WINDOW"),),
    "a hundred warnings": (window(warnings=[SHORT] * 100),),
    "a warning in its own words": (window(warnings=[{"code": "SHORT_WINDOW", "message": "secret"}]),),
    "a warning that nobody knows": (window(warnings=[SHORT | {"key": "secret"}]),),
    "a lone surrogate": (window(warnings=[SHORT | {"key": "\ud800"}]),),
    "a warning with text for a number": (
        window(warnings=[SHORT | {"values": {**SHORT["values"], "frames": "x"}}]),
    ),
    "a warning with a value more": (window(warnings=[SHORT | {"values": {**SHORT["values"], "more": 1}}]),),
    "an error in its own words": (
        {"error": {"code": "NO_FRAMES", "status": 422, "message": "x" * 45_000, "hint": "secret"}},
    ),
    "an error that nobody knows": ({"error": {"key": "secret", "values": {}, "missing": False}},),
    "an error that is a list": ({"error": [1]},),
    "an error with text for a number": (
        {"error": {"key": "too_many_frames", "values": {"most": "secret"}, "missing": False}},
    ),
    "a codec that is a sentence": (
        {"error": {"key": "unsupported_codec", "values": {"codec": "[METRICS]x:1"}, "missing": False}},
    ),
    "a kind of file that there is not": (
        {"error": {"key": "not_a_video", "values": {"size": 1, "kind": "secret"}, "missing": False}},
    ),
    "an error with another one": ({"error": to_wire(problem("empty_stream")), "internal": "x"},),
    "an end without a window": ({"end": True},),
    "an end that is an error": ({"end": True, "error": to_wire(problem("empty_stream"))},),
    "opened twice": ({"opened": True}, {"opened": True}),
    "nothing": ({},),
    "a message of 64 KB and more": (b'"' + b"x" * 70_000 + b'"',),
}


def test_the_honest_answer(evil: Sandbox) -> None:
    """The answer that all lies are made from is believed as it is: so each lie is refused for what is wrong in
    it.
    """
    found = evil.windows(say(HONEST, {"end": True}), SPEC, FIRST_WINDOW, LIMITS)
    (said,) = found
    assert described(said) | {"shot_boundaries": [], "frame_seconds": [0.0] * 32} == HONEST["window"]
    longer = evil.windows(say(window(warnings=[SHORT]), {"end": True}), SPEC, FIRST_WINDOW, LIMITS)
    assert next(longer).warnings[0].code == "SHORT_WINDOW"


@pytest.mark.parametrize("lie", LIES)
def test_a_lie(evil: Sandbox, lie: str) -> None:
    """No lie gets further than the child that tells it: its request is told that its video broke the
    decoder.
    """
    with pytest.raises(ClipError) as caught:
        list(evil.windows(say(*LIES[lie]), SPEC, Selection(views=64), LIMITS))
    assert (caught.value.code, caught.value.status) == ("DECODER_CRASHED", 422)
    assert len(caught.value.message) < 300
    assert "secret" not in str(caught.value)
    json.dumps(caught.value.to_dict(), allow_nan=False).encode()


def test_after_all_lies_others_are_served(evil: Sandbox) -> None:
    """Whatever children have said, the next clip has its own frames."""
    (there,) = evil.windows(CLIP, SPEC, FIRST_WINDOW, LIMITS)
    (here,) = windows(CLIP, SPEC, FIRST_WINDOW, LIMITS)
    assert np.array_equal(there.frames, here.frames)


def test_a_traceback_is_told_to_the_log_alone(evil: Sandbox) -> None:
    """What a child says of an error of its own is bounded, printable, and at the begin of no line."""
    text = "\n".join(
        ["[METRICS]made_up.Gauge:1|#Level:Host|#hostname:x", "[PID]1", "\x1b[2J\x00", "é" * 500] * 20
    )
    with pytest.raises(RuntimeError) as caught:
        list(evil.windows(say({"internal": text}), SPEC, FIRST_WINDOW, LIMITS))
    lines = str(caught.value).splitlines()
    assert len(lines) <= 21
    assert all(line.isascii() and line.isprintable() and len(line) < 210 for line in lines)
    assert not any(line.startswith("[") for line in lines)


@pytest.mark.parametrize("text", [METRIC, "[PID]99999999999", "x" * 5000])
def test_standard_error_is_its_own(
    evil: Sandbox, text: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A child's standard error is not the worker's, which TorchServe reads metrics and process ids from; a
    flood of it neither blocks anybody nor fills the log.
    """
    with caplog.at_level(logging.WARNING), pytest.raises(ClipError, match="ended the process"):
        list(evil.windows(b"STDERR " + text.encode() + b"\n", SPEC, FIRST_WINDOW, LIMITS))
    out, err = capfd.readouterr()
    assert text[:20] not in out + err
    said = [record.getMessage() for record in caplog.records if text[:8] in record.getMessage()]
    assert 1 <= len(said) <= 20
    assert all(line.startswith("Decoding child ") and len(line) < 250 for line in said)


def test_safe_lines() -> None:
    """The last lines, in printable ASCII, whatever the text has in it."""
    assert safe_lines("a\x1b\x7fb\u2028c\ud800") == ["a\\x1b\\x7fb", "c\\ud800"]


@pytest.mark.parametrize("key", ["no_frames", "corrupt", "unreadable", "start_beyond_end", "frame_too_large"])
def test_problems_travel(key: str) -> None:
    """An error is the same on both sides, though its words do not travel."""
    values: dict[str, dict[str, object]] = {
        "no_frames": {"start_seconds": 0.0, "end_seconds": 2.1},
        "corrupt": {"decoded": 3, "promised": 64},
        "unreadable": {"kind": "MP4", "size": 3000, "reason": "end of file"},
        "start_beyond_end": {"start_seconds": 9.0, "seconds": 2.3},
        "frame_too_large": {"most": 8_294_400},
    }
    error = problem(key, **values[key])
    said = json.loads(json.dumps(to_wire(error)))
    assert error.message not in json.dumps(said)
    assert error_from_wire(said).to_dict() == error.to_dict()
    with pytest.raises(ValueError, match="warning"):
        warning_from_wire(said)


def test_memory_does_not_stay(evil: Sandbox) -> None:
    """What one video makes a child take is gone with its request: the next one decodes in another child's
    memory.
    """
    large = encode(np.repeat(textured_frames(1920, 1080, 1), 8, axis=0), options={"preset": "ultrafast"})
    for _ in range(3):
        list(evil.windows(large, SPEC, FIRST_WINDOW, replace(LIMITS)))
    for pid in evil.pids():
        kilobytes = int(
            next(
                line.split()[1]
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith("VmRSS")
            )
        )
        assert kilobytes < 150_000
