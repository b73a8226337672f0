"""Promise: an option in the address means the same as one in the body, and the body passes as it comes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlencode

import pytest
from actionrec.errors import ClipError
from actionrec.request import ClipRequest, parse_request
from hypothesis import given
from hypothesis import strategies as st

from actionrec_gateway.bodies import form, options_of, with_options

LABELS = ("left", "right", "up")
VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 40
OPTIONS = {"top_k": "2", "start_seconds": "1.5", "explain": "left"}
FORM = form(VIDEO, {"crops": 3}, "itsown")
JSON = json.dumps({"video": base64.b64encode(VIDEO).decode(), "crops": 3}).encode()


def wrapped(body: bytes, query: bytes, cuts: Sequence[int] = ()) -> bytes:
    """The body with the options of a query string, sent in pieces that end at these places."""
    ends = sorted({min(cut, len(body)) for cut in cuts} | {len(body)})

    async def pieces() -> AsyncIterator[bytes]:
        begin = 0
        for end in ends:
            yield body[begin:end]
            begin = end

    async def run() -> bytes:
        found = await with_options(pieces(), options_of(query))
        whole = b"".join([chunk async for chunk in found.chunks])
        assert len(whole) == len(body) + found.added
        return whole

    return asyncio.run(run())


def parsed(body: bytes) -> ClipRequest:
    return parse_request({"body": body}, LABELS)


@pytest.mark.parametrize("body", [VIDEO, FORM, JSON, b" \r\n\t" + JSON], ids=["video", "form", "json", "space"])
@given(cuts=st.lists(st.integers(0, 600), max_size=5))
def test_options_reach_the_handler(body: bytes, cuts: list[int]) -> None:
    """Of a file, a form and JSON, in whatever pieces they come: the video is untouched, all options hold."""
    request = parsed(wrapped(body, urlencode(OPTIONS).encode(), cuts))
    assert request.video == VIDEO
    assert (request.top_k, request.selection.start_seconds, request.explain) == (2, 1.5, 0)
    assert request.selection.crops == (1 if body is VIDEO else 3)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "EMPTY_BODY"),
        (b"{}", "NO_VIDEO"),
        (b"{ \n }", "NO_VIDEO"),
        (b"[1, 2]", "BAD_BODY"),
        (b'{"video": ', "BAD_BODY"),
        (b"--", "BAD_FORM"),
        (b"--" + b"x" * 90 + b"\r\n", "BAD_FORM"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n", "BAD_FORM"),
    ],
)
def test_bad_bodies_keep_their_errors(body: bytes, code: str) -> None:
    """A body that is refused without options is refused with them, by the same code."""
    for each in (body, wrapped(body, b"top_k=2")):
        with pytest.raises(ClipError) as caught:
            parsed(each)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (b"topk=3", None),
        (b"top_k=1&top_k=2", "CONFLICTING_OPTIONS"),
        (b"video=x", "UNKNOWN_OPTION"),
        (b"top_k%22%0d%0a=3", "UNKNOWN_OPTION"),
        (b"=3", "UNKNOWN_OPTION"),
        (b"&".join(b"a=1" for _ in range(40)), "BAD_OPTION"),
    ],
)
def test_names_in_the_address(query: bytes, code: str | None) -> None:
    """A name that no option can have is refused at once; one that might be a newer archive's is not."""
    if code is None:
        with pytest.raises(ClipError) as caught:
            parsed(wrapped(VIDEO, query))
        assert caught.value.code == "UNKNOWN_OPTION"  # the handler's own
        return
    with pytest.raises(ClipError) as caught:
        options_of(query)
    assert (caught.value.code, caught.value.status) == (code, 400)


@given(st.text(max_size=60))
def test_any_value(value: str) -> None:
    """Whatever a value is, it stays one value: it cannot add a field, end a form or change the video."""
    query = urlencode({"explain": value}, errors="replace").encode()
    for body in (VIDEO, JSON):
        sent = wrapped(body, query)
        if value in (*LABELS, "true", "false"):
            assert parsed(sent).video == VIDEO
            continue
        with pytest.raises(ClipError) as caught:
            parsed(sent)
        assert caught.value.code == "BAD_OPTION"


@pytest.mark.parametrize("name", ["", "a b", 'x"', "x\r\ny", "\u00e4", "x" * 41])
def test_names_as_the_engine_is_asked(name: str) -> None:
    """A name that could mean something else in a form never gets into one."""
    with pytest.raises(ClipError, match="UNKNOWN_OPTION"):
        form(VIDEO, {name: 1}, "b")


def test_values_as_the_engine_is_asked() -> None:
    """Numbers and truth values that a program gives are written as a request has them."""
    request = parsed(form(VIDEO, {"top_k": 1, "stride_seconds": 0.5, "explain": False}, "b"))
    assert (request.top_k, request.selection.stride_seconds, request.explain) == (1, 0.5, None)
