"""The requests: every option, container, codec and error that a request can bring about by itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np

from actionrec_gateway.bodies import OPAQUE, form
from motion.clips import random_clip
from testing.media import encode, textured_frames, turn
from tests import hostile
from tests.fuzz import seeds

BOUNDARY = "conformance"
FORM, JSON = f"multipart/form-data; boundary={BOUNDARY}", "application/json"
PREDICTIONS, EXPLANATIONS = "predictions", "explanations"

NOT_BY_A_REQUEST = {
    "BODY_TOO_LARGE": "100 MB, which doors refuse in words of their own before an engine reads them",
    "BAD_BODY": "only where an engine made text of the bytes, which none of these does",
    "NOT_EXPLAINABLE": "only of a network whose head is not linear",
    "DECODE_TIMEOUT": "only of a file that takes seconds",
    "DECODER_CRASHED": "only of a decoder with a fault",
    "DECODER_UNAVAILABLE": "only where no child can be started",
    "INTERNAL": "only of code with a fault",
    "OUT_OF_TIME": "only of a call that takes minutes",
    "STILL_WORKING": "only of a request that others wait for",
}
"""Codes that no request of this table has, and why."""


@dataclass(frozen=True)
class Case:
    """One request."""

    name: str
    video: Callable[[], bytes]
    """The file; where `kind` is `OPAQUE`, the whole body."""
    options: Mapping[str, str | float | bool] = field(default_factory=dict)
    kind: str = FORM
    """How it is sent: `FORM`, `JSON`, or `OPAQUE`, as it is."""
    what: str = PREDICTIONS
    """The route."""

    def body(self) -> bytes:
        """What is sent."""
        if self.kind == FORM:
            return form(self.video(), self.options, BOUNDARY)
        if self.kind == JSON:
            return json.dumps({"video": base64.b64encode(self.video()).decode(), **self.options}).encode()
        return self.video()


@cache
def short() -> bytes:
    """A clip of 2.3 s that shows a motion."""
    return random_clip(11, "moving left").data


@cache
def other() -> bytes:
    """One that shows another."""
    return random_clip(12, "rotating clockwise").data


@cache
def five_seconds() -> bytes:
    """150 frames of 160 x 120 pixels."""
    return encode(textured_frames(160, 120, 150), options={"g": "30"})


@cache
def scenes() -> bytes:
    """Six seconds, at the half of which the picture changes at once."""
    day = textured_frames(160, 120, 90)
    return encode(np.concatenate([day, day[::-1] // 5]), options={"g": "30"})


@cache
def upright() -> bytes:
    """A telephone's: turned by a quarter."""
    return turn(encode(textured_frames(160, 120, 70)), 90)


@cache
def uneven() -> bytes:
    """One whose frames do not come evenly."""
    times = [index / 30 + (0.2 if index > 20 else 0.0) for index in range(70)]
    return encode(textured_frames(160, 120, 70), times=times)


@cache
def slow() -> bytes:
    """Five frames a second."""
    return encode(textured_frames(160, 120, 15), fps=5)


@cache
def small(container: str, codec: str) -> bytes:
    """A file of this kind, the same on every machine."""
    if codec == "libvpx":  # which in real time, as the fuzzer has it, leaves out what it finds no time for
        return encode(
            textured_frames(64, 48, 12), codec=codec, container=container, options={"deadline": "good"}
        )
    return seeds.small(container, codec)


def with_fields(*fields: tuple[str, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    """A form of any fields."""
    head = b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return b"".join(head % (name.encode(), value) for name, value in fields) + end


def _asked(name: str, video: Callable[[], bytes] = short, **options: str | float | bool) -> Case:
    return Case(name, video, options)


def _as_is(name: str, body: bytes | Callable[[], bytes]) -> Case:
    return Case(name, body if callable(body) else (lambda: body), kind=OPAQUE)


FORMS = (
    _as_is("a file as it is", short),
    _asked("a form"),
    Case("JSON", short, kind=JSON),
    Case("JSON with options", short, {"top_k": 2, "start_seconds": 0.1}, JSON),
    _as_is("JSON without a type", lambda: Case("", short, {"top_k": 1}, JSON).body()),
    _as_is("a form without a type", lambda: Case("", short, {"top_k": 1}).body()),
    _as_is("the field data", lambda: with_fields(("data", short()))),
    _as_is("the field body", lambda: with_fields(("body", short()), ("top_k", b"1"))),
    _as_is("JSON, the field data", lambda: json.dumps({"data": base64.b64encode(short()).decode()}).encode()),
)
GOOD = (
    _asked("top_k", top_k=3),
    _asked("top_k, all", top_k=8),
    _asked("start_seconds", five_seconds, start_seconds=1.5),
    _asked("end_seconds", five_seconds, end_seconds=1),
    _asked("start_seconds and end_seconds", five_seconds, start_seconds=1, end_seconds=2.5),
    _asked("views", five_seconds, views=3),
    _asked("crops", five_seconds, crops=3),
    _asked("views and crops", five_seconds, views=2, crops=3, top_k=2),
    _asked("stride_seconds", five_seconds, stride_seconds=1),
    _asked("a timeline with a change of scenes", scenes, stride_seconds=1.0, top_k=1),
    _asked("a timeline of a range", five_seconds, stride_seconds=0.7, start_seconds=0.5, end_seconds=4),
    _asked("embedding as numbers", embedding="json"),
    _asked("embedding in base64", embedding="base64"),
    _asked("embeddings of a timeline", five_seconds, embedding="base64", stride_seconds=1.5, top_k=1),
    _asked("explain the best", explain="true"),
    _asked("explain another", explain="growing"),
    _asked("explain, and the embedding", explain="true", embedding="base64"),
    _asked("explain nothing", explain="false"),
    Case("the route of explanations", short, what=EXPLANATIONS),
    Case("the route of explanations, and a label", short, {"explain": "moving up"}, what=EXPLANATIONS),
    _asked("another clip", other),
    _asked("turned by a quarter", upright),
    _asked("frames that do not come evenly", uneven),
    _asked("five frames a second", slow),
)
BAD = (
    _asked("topk", topk=3),
    _asked("top_k of 0", top_k=0),
    _asked("top_k of 9", top_k=9),
    _asked("top_k in words", top_k="three"),
    _asked("start_seconds after the end", start_seconds=100),
    _asked("start_seconds below 0", start_seconds=-1),
    _asked("end_seconds in words", end_seconds="nan"),
    _asked("end_seconds before start_seconds", start_seconds=2, end_seconds=1),
    _asked("views of 65", views=65),
    _asked("views and stride_seconds", views=2, stride_seconds=1),
    _asked("crops of 2", crops=2),
    _asked("stride_seconds of 0", stride_seconds=0),
    _asked("too many windows", five_seconds, stride_seconds=0.1, crops=3),
    _asked("embedding in XML", embedding="xml"),
    _asked("explain an unknown label", explain="moving lef"),
    _asked("explain a timeline", five_seconds, explain="true", stride_seconds=1),
    _asked("explain nine views", five_seconds, explain="true", views=3, crops=3),
    _as_is("no video in a form", with_fields(("top_k", b"3"))),
    _as_is("two videos", lambda: with_fields(("video", short()), ("data", short()))),
    _as_is("a form that breaks off", lambda: with_fields(("video", short()), end=b"")),
    _as_is("JSON without a video", b'{"top_k": 3}'),
    _as_is("JSON with a number for a video", b'{"video": 7}'),
    _as_is("JSON that is no base64", b'{"video": "===="}'),
)


def _covering(kinds: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Few of them that have every container and every codec."""
    chosen: list[tuple[str, str]] = []
    for most_known in (0, 1):
        for kind in kinds:
            known = sum(any(kind[by] == each[by] for each in chosen) for by in (0, 1))
            if known <= most_known:
                chosen.append(kind)
    return chosen


KINDS = tuple(
    Case(f"{container}, {codec}", partial(small, container, codec), {"top_k": 1})
    for container, codec in _covering(seeds.KINDS)
)
_NOWHERE = hostile.Lure(Path("nowhere"), "http://127.0.0.1:9")
_SEEN = {
    *("a PNG picture", "text", "64 KB of noise", "ffconcat, file", "ffconcat, address", "HLS playlist, file"),
    *("DASH, file", "DASH, address", "a million frames", "an unknown option", "an option out of range"),
    *("an option that is not a number", "NaN", "end before start", "start beyond the end"),
    *("grows to 4096 x 2304", "150,000 frames at once"),
}
"""Of the table of hostile files: those that say nothing here that others do not."""
HOSTILE = tuple(
    Case(case.name, partial(case.make, _NOWHERE), case.options)
    for case in hostile.CASES
    if case.name not in _SEEN
)
CASES = (*FORMS, *GOOD, *BAD, *KINDS, *HOSTILE)
