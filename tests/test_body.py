"""Promise: a body is what its first bytes say, whatever its Content-Type, and cannot grow in memory."""

import base64
import json
import tracemalloc
from collections.abc import Callable

import pytest
import requests
from actionrec.errors import ClipError
from actionrec.request import ClipRequest, parse_request

LABELS = [f"label {number}" for number in range(8)]
VIDEO = b"\x00\x00\x00\x18ftyp\r\n--XX\xff\r\n\r\n"
BASE64 = base64.b64encode(VIDEO).decode()
PART = b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'


def form(*parts: tuple[bytes, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    """A form as a client writes it that quotes names."""
    return b"".join(PART % part for part in parts) + end


def sent_by_requests(video: bytes, **options: str) -> bytes:
    """The body that the library writes, with the video as a file."""
    request = requests.Request("POST", "http://localhost", data=options, files={"video": ("a.mp4", video)})
    body = request.prepare().body
    assert isinstance(body, bytes)
    return body


CURL = (
    b"--------------------------d74496d66958873e\r\n"
    b'Content-Disposition: form-data; name="top_k"\r\n\r\n2\r\n'
    b"--------------------------d74496d66958873e\r\n"
    b'content-disposition: form-data; filename="a; name=x\xc3\xa4.mp4"; name=video\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + VIDEO + b"\r\n"
    b"--------------------------d74496d66958873e--\r\n"
)

GOOD = {
    "a form by requests": (sent_by_requests(VIDEO, top_k="2"), ClipRequest(VIDEO, top_k=2)),
    "a form like curl's": (CURL, ClipRequest(VIDEO, top_k=2)),
    "a form whose video is like a form": (sent_by_requests(CURL), ClipRequest(CURL)),
    "JSON": (json.dumps({"video": BASE64, "top_k": 2}).encode(), ClipRequest(VIDEO, top_k=2)),
    "JSON after white space": (b' \r\n\t{"data":"' + BASE64.encode() + b'"}', ClipRequest(VIDEO)),
    "a video": (VIDEO, ClipRequest(VIDEO)),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_no_content_type_is_needed(name: str, kind: Callable[[bytes], bytes | bytearray]) -> None:
    """A form and JSON that no server has taken apart are the same request as the file alone."""
    body, expected = GOOD[name]
    assert parse_request({"body": kind(body)}, LABELS) == expected


def test_text() -> None:
    """TorchServe makes text of a body that is called so; it is read all the same."""
    assert parse_request({"body": GOOD["JSON"][0].decode()}, LABELS) == GOOD["JSON"][1]


BAD = {
    "a list": (b"[300]", "BAD_BODY", "a list"),
    "a list of objects": (b'[{"data": "x"}]', "BAD_BODY", "a list"),
    "JSON that breaks off": (b'{"video": "AAAA', "BAD_BODY", "column 11"),
    "JSON with more after it": (b'{"video": "AAAA"} x', "BAD_BODY", "Extra data"),
    "JSON with letters that are not ASCII": ('{"video": "ä"}'.encode(), "BAD_BODY", "bytes"),
    "JSON with a number of 5,000 digits": (b'{"top_k": ' + b"1" * 5000 + b"}", "BAD_BODY", "numbers"),
    "JSON of brackets": (b"[" * 100_000, "BAD_BODY", "more than 100"),
    "JSON of many values": (b'{"video": "AAAA", "top_k": [' + b"1," * 1000 + b"1]}", "BAD_BODY", "more than"),
    "an object without a video": (b"{}", "NO_VIDEO", "no field video"),
    "half a character in a name": (b'{"\\ud800": 1, "video": "AAAA"}', "UNKNOWN_OPTION", r"\ud800"),
    "half a character in the video": (b'{"video": "\\ud800"}', "BAD_BASE64", "not base64"),
    "half a character in an option": (b'{"video": "AAAA", "top_k": "\\ud800"}', "BAD_OPTION", r"\ud800"),
    "infinity": (b'{"video": "AAAA", "top_k": Infinity}', "BAD_OPTION", "inf"),
    "a form that breaks off": (form((b"video", b"abc"), end=b""), "BAD_FORM", "breaks off"),
    "a form without fields": (b"--XX--\r\n", "BAD_FORM", "headers"),
    "a form without a boundary": (b"--\r\n\r\n--\r\n", "BAD_FORM", "boundary"),
    "a form with a boundary of 71 characters": (b"--" + b"X" * 71 + b"\r\n", "BAD_FORM", "boundary"),
    "a form of lines that end otherwise": (
        form((b"video", b"abc")).replace(b"\r", b""),
        "BAD_FORM",
        "boundary",
    ),
    "a field with an empty name": (form((b"", b"abc")), "BAD_FORM", "no name"),
    "a field without headers": (b"--XX\r\n\r\nabc\r\n--XX--\r\n", "BAD_FORM", "no name"),
    "a field with another header": (b"--XX\r\nX: y\r\n\r\nabc\r\n--XX--\r\n", "BAD_FORM", "no name"),
    "a name in an odd character set": (
        b"--XX\r\nContent-Disposition: form-data; name*=nope''%ff\r\n\r\nabc\r\n--XX--\r\n",
        "BAD_FORM",
        "no name",
    ),
    "a field with long headers": (form((b"x" * 3000, b"abc")), "BAD_FORM", "too many"),
    "a field twice": (form((b"video", b"a"), (b"video", b"b")), "BAD_FORM", "'video' twice"),
    "33 fields": (form(*((b"%d" % n, b"") for n in range(33))), "BAD_FORM", "more than 32"),
    "two videos": (form((b"video", b"a"), (b"data", b"b")), "TWO_VIDEOS", "video and data"),
    "no video": (form((b"top_k", b"a")), "NO_VIDEO", "top_k"),
    "a name that is not ASCII": (form((b"video", b"a"), (b"\xff\xfe", b"b")), "UNKNOWN_OPTION", r"\ufffd"),
    "an empty video": (form((b"video", b"")), "EMPTY_BODY", "no bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused(name: str) -> None:
    """Each has its code, a short message in ASCII, and a hint."""
    body, code, said = BAD[name]
    with pytest.raises(ClipError) as caught:
        parse_request({"body": body}, LABELS)
    error = caught.value
    assert (error.code, error.status) == (code, 400), error
    assert said in error.message
    assert error.message.isascii()
    assert len(error.message) < 200
    assert error.hint


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"",', b"0,", b'{"":', b"[" * 100])
@pytest.mark.parametrize("start", [b"[", b'{"video": ['])
def test_json_cannot_grow(piece: bytes, start: bytes) -> None:
    """Ten megabytes that would be a hundred as lists are refused without being parsed."""
    body = start + piece * (10_000_000 // len(piece))
    tracemalloc.start()
    try:
        with pytest.raises(ClipError, match="more than 100"):
            parse_request({"body": body}, LABELS)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_forms_cannot_grow() -> None:
    """A form of a hundred thousand fields is refused at the thirty-third."""
    body = form(*((b"%d" % n, b"") for n in range(100_000)))
    tracemalloc.start()
    try:
        with pytest.raises(ClipError, match="more than 32"):
            parse_request({"body": body}, LABELS)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
