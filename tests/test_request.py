"""Promise: a request means the same however it is written, and a wrong one is refused by the field's name."""

import base64
from typing import Any

import pytest
from actionrec.errors import ClipError
from actionrec.request import BEST_LABEL, ClipRequest, parse_request
from actionrec.sampling import Selection

LABELS = ("running", "sitting", "éclair", "d", "e", "f", "g", "h")
VIDEO = b"\x00\x00\x00\x18ftyp"
BASE64 = base64.b64encode(VIDEO).decode()

GOOD: dict[str, tuple[dict[str, Any], ClipRequest]] = {
    "raw body": ({"body": VIDEO}, ClipRequest(VIDEO)),
    "bytearray": ({"data": bytearray(VIDEO)}, ClipRequest(VIDEO)),
    "form": ({"video": VIDEO, "top_k": b"3"}, ClipRequest(VIDEO, top_k=3)),
    "form, all options": (
        {"data": VIDEO, "top_k": "1", "start_seconds": b"0.5", "end_seconds": b"1e1"},
        ClipRequest(VIDEO, 1, Selection(0.5, 10.0)),
    ),
    "json": ({"body": {"video": BASE64, "top_k": 2}}, ClipRequest(VIDEO, top_k=2)),
    "json with text numbers": (
        {"body": {"data": BASE64, "end_seconds": "2"}},
        ClipRequest(VIDEO, 5, Selection(0.0, 2.0)),
    ),
    "views": (
        {"body": VIDEO, "views": b"10", "crops": b"3"},
        ClipRequest(VIDEO, selection=Selection(0, None, 10, 3)),
    ),
    "timeline": (
        {"body": {"video": BASE64, "stride_seconds": 0.5, "crops": 3, "start_seconds": 1}},
        ClipRequest(VIDEO, selection=Selection(1.0, crops=3, stride_seconds=0.5)),
    ),
    "embedding": ({"video": VIDEO, "embedding": b"json"}, ClipRequest(VIDEO, embedding=True)),
    "embedding in base64": (
        {"body": {"video": BASE64, "embedding": "base64"}},
        ClipRequest(VIDEO, embedding=True, embedding_in_base64=True),
    ),
    "explain the best": ({"video": VIDEO, "explain": b"true"}, ClipRequest(VIDEO, explain=BEST_LABEL)),
    "explain, in JSON": ({"body": {"video": BASE64, "explain": True}}, ClipRequest(VIDEO, explain=BEST_LABEL)),
    "explain nothing": ({"body": {"video": BASE64, "explain": False}}, ClipRequest(VIDEO)),
    "explain a label": ({"video": VIDEO, "explain": "éclair".encode()}, ClipRequest(VIDEO, explain=2)),
    "one view is a timeline's default": (
        {"body": VIDEO, "views": b"1", "stride_seconds": b"2"},
        ClipRequest(VIDEO, selection=Selection(stride_seconds=2.0)),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_way_to_write_a_request(name: str) -> None:
    """Raw, multipart and JSON requests become the same ClipRequest."""
    row, expected = GOOD[name]
    assert parse_request(row, LABELS) == expected


def test_default_top_k_fits_a_model_of_few_classes() -> None:
    """A model with three classes answers with three labels, not with an error about five."""
    assert parse_request({"body": VIDEO}, LABELS[:3]).top_k == 3


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no field": ({}, "NO_VIDEO", "none"),
    "no video": ({"film": b"x", "top_k": b"3"}, "NO_VIDEO", "film"),
    "empty": ({"body": b""}, "EMPTY_BODY", "no bytes"),
    "null": ({"body": None}, "EMPTY_BODY", "no bytes"),
    "two": ({"video": VIDEO, "data": VIDEO}, "TWO_VIDEOS", "video and data"),
    "json without video": ({"body": {"top_k": 3}}, "NO_VIDEO", "no field video"),
    "a number": ({"body": 104_857_600}, "BAD_BODY", "a number"),
    "zero": ({"body": 0}, "BAD_BODY", "a number"),
    "a fraction": ({"body": 1.5}, "BAD_BODY", "a number"),
    "not a number": ({"body": float("nan")}, "BAD_BODY", "a number"),
    "ten to the thirty": ({"body": 10**30}, "BAD_BODY", "a number"),
    "true": ({"body": True}, "BAD_BODY", "true or false"),
    "a list": ({"body": [300]}, "BAD_BODY", "a list"),
    "a list of objects": ({"data": [{"data": "x"}]}, "BAD_BODY", "a list"),
    "half a character": ({"body": "\ud800"}, "BAD_BODY", "not proper Unicode"),
    "half a character in a name": ({"body": VIDEO, "\ud800": b""}, "UNKNOWN_OPTION", r"\ud800"),
    "only half a character in a name": ({"\ud800": b""}, "NO_VIDEO", r"\ud800"),
    "a form's video as a number": ({"video": 60_000_000_000}, "BAD_BODY", "a number"),
    "json with a number": ({"body": {"video": 7}}, "BAD_BASE64", "a int"),
    "not base64": ({"body": {"video": "@@@"}}, "BAD_BASE64", "not base64"),
    "unknown": ({"body": VIDEO, "topk": b"3"}, "UNKNOWN_OPTION", "topk"),
    "views none": ({"body": VIDEO, "views": b"0"}, "OPTION_OUT_OF_RANGE", "views"),
    "views half": ({"body": VIDEO, "views": b"1.5"}, "BAD_OPTION", "views"),
    "views too many": ({"body": VIDEO, "views": b"65"}, "OPTION_OUT_OF_RANGE", "65"),
    "views x crops too many": ({"body": VIDEO, "views": b"22", "crops": b"3"}, "OPTION_OUT_OF_RANGE", "22"),
    "crops two": ({"body": VIDEO, "crops": b"2"}, "OPTION_OUT_OF_RANGE", "crops is 2"),
    "crops four": ({"body": VIDEO, "crops": b"4"}, "OPTION_OUT_OF_RANGE", "crops"),
    "stride none": ({"body": VIDEO, "stride_seconds": b"0"}, "OPTION_OUT_OF_RANGE", "stride_seconds"),
    "stride tiny": ({"body": VIDEO, "stride_seconds": b"0.01"}, "OPTION_OUT_OF_RANGE", "0.01"),
    "stride text": ({"body": VIDEO, "stride_seconds": b"often"}, "BAD_OPTION", "stride_seconds"),
    "views and stride": (
        {"body": VIDEO, "stride_seconds": b"1", "views": b"2"},
        "CONFLICTING_OPTIONS",
        "views=2 and stride_seconds=1",
    ),
    "embedding as what": ({"body": VIDEO, "embedding": b"yes"}, "BAD_OPTION", "embedding is"),
    "embedding a number": ({"body": {"video": BASE64, "embedding": 1}}, "BAD_OPTION", "embedding is 1"),
    "explain no label": ({"body": VIDEO, "explain": b"runing"}, "BAD_OPTION", "no label"),
    "explain a number": ({"body": {"video": BASE64, "explain": 3}}, "BAD_OPTION", "explain is 3"),
    "explain empty": ({"body": VIDEO, "explain": b""}, "BAD_OPTION", "no label"),
    "explain a timeline": (
        {"body": VIDEO, "explain": b"true", "stride_seconds": b"1"},
        "CONFLICTING_OPTIONS",
        "stride_seconds=1",
    ),
    "explain too many": (
        {"body": VIDEO, "explain": b"true", "views": b"3", "crops": b"3"},
        "OPTION_OUT_OF_RANGE",
        "9",
    ),
    "top_k text": ({"body": VIDEO, "top_k": b"many"}, "BAD_OPTION", "'many'"),
    "top_k fraction": ({"body": VIDEO, "top_k": b"2.5"}, "BAD_OPTION", "2.5"),
    "top_k zero": ({"body": VIDEO, "top_k": b"0"}, "OPTION_OUT_OF_RANGE", "top_k"),
    "top_k nine of eight": ({"body": VIDEO, "top_k": b"9"}, "OPTION_OUT_OF_RANGE", "9"),
    "top_k true": ({"body": {"video": BASE64, "top_k": True}}, "BAD_OPTION", "True"),
    "top_k list": ({"body": {"video": BASE64, "top_k": [3]}}, "BAD_OPTION", "[3]"),
    "top_k null": ({"body": {"video": BASE64, "top_k": None}}, "BAD_OPTION", "None"),
    "top_k an object": ({"body": {"video": BASE64, "top_k": {"a": [1]}}}, "BAD_OPTION", "{'a': [1]}"),
    "top_k half a character": ({"body": {"video": BASE64, "top_k": "\ud800"}}, "BAD_OPTION", r"\ud800"),
    "top_k of 400 digits": ({"body": {"video": BASE64, "top_k": 10**400}}, "OPTION_OUT_OF_RANGE", "1000000"),
    "top_k of 5,000 digits": (
        {"video": VIDEO, "top_k": 10**5000},
        "OPTION_OUT_OF_RANGE",
        "thousands of digits",
    ),
    "top_k infinite": ({"body": {"video": BASE64, "top_k": float("inf")}}, "BAD_OPTION", "inf"),
    "start 1e400": ({"body": VIDEO, "start_seconds": b"1e400"}, "BAD_OPTION", "1e400"),
    "start not a number": ({"body": VIDEO, "start_seconds": b"nan"}, "BAD_OPTION", "nan"),
    "start infinite": ({"body": VIDEO, "start_seconds": b"inf"}, "BAD_OPTION", "inf"),
    "start negative": ({"body": VIDEO, "start_seconds": b"-1"}, "OPTION_OUT_OF_RANGE", "start_seconds"),
    "start not text": ({"body": VIDEO, "start_seconds": b"\xff\xfe"}, "BAD_OPTION", "start_seconds"),
    "start a megabyte": ({"body": VIDEO, "start_seconds": b"9" * 10**6}, "BAD_OPTION", "start_seconds"),
    "end before start": (
        {"body": VIDEO, "start_seconds": b"5", "end_seconds": b"5"},
        "OPTION_OUT_OF_RANGE",
        "end_seconds",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_requests_are_refused_by_name(name: str) -> None:
    """Each mistake has its code, a message that names what was received (shortened), and a hint."""
    row, code, said = BAD[name]
    with pytest.raises(ClipError) as caught:
        parse_request(row, LABELS)
    error = caught.value
    assert (error.code, error.status) == (code, 400)
    assert said in error.message
    assert len(error.message) < 200
    assert error.hint


def test_a_form_encoded_file_is_recognised() -> None:
    """Curl --data-binary without a content type makes form fields of the file: the hint says what to do."""
    with pytest.raises(ClipError) as caught:
        parse_request({"\x1aE\xdf\xa3" * 300: b"", "x" * 5000: b"1"}, LABELS)
    assert caught.value.code == "NO_VIDEO"
    assert "--data-binary" in caught.value.hint
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "text",
    ["٣", "５", "1_0", " 1 ", "1\n", "0x10", "+1", "01", ".5", "1.", "1e", "--1", "", "1 2", "1,5", "infinity"],
)
def test_numbers_are_written_as_in_json(text: str) -> None:
    """Digits of other scripts, spaces, plus signs and all else that Python takes for a number are refused."""
    for value in (text, text.encode()):
        with pytest.raises(ClipError) as caught:
            parse_request({"body": VIDEO, "start_seconds": value}, LABELS)
        assert caught.value.code == "BAD_OPTION"
        assert caught.value.message.isascii()


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("-0", 0), ("1.50", 1.5), ("1e1", 10), ("2.5E-1", 0.25)]
)
def test_numbers_of_json(text: str, number: float) -> None:
    """What JSON writes is read, as text too."""
    assert parse_request({"body": VIDEO, "start_seconds": text}, LABELS).selection.start_seconds == number


def test_a_long_list_is_named_in_short() -> None:
    """A message about an option with a million values is made from the first few."""
    with pytest.raises(ClipError) as caught:
        parse_request({"body": VIDEO, "top_k": [{"a": "b" * 10**6}] * 10**6}, LABELS)
    assert len(caught.value.message) < 100
