"""Promise: each row that a server hands over has an answer that is listed."""

from __future__ import annotations

import json
import re
from typing import Any

from actionrec.errors import ClipError
from actionrec.request import ClipRequest, parse_request
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.answers import HANDLER
from tests.conftest import PROJECT
from tests.odd_requests import CLIP, bodies, names, option_texts, values


@given(
    st.dictionaries(names, st.one_of(values, bodies, bodies.map(bytearray), option_texts), max_size=6),
    st.integers(1, 400),
)
@example({"body": 10**5000}, 8)
@example({"body": CLIP, "top_k": 10**5000}, 8)
@example({"body": CLIP, "top_k": [10**5000]}, 8)
@settings(max_examples=1000)
def test_any_row(row: dict[str, Any], num_classes: int) -> None:
    """Whatever a server hands over is a request or one of the errors, which is short and can be sent."""
    answer = parsed(row, num_classes)
    if isinstance(answer, ClipRequest):
        assert isinstance(answer.video, bytes)
        assert answer.video
        assert 1 <= answer.top_k <= num_classes
    else:
        assert (answer.status, answer.code) in HANDLER
        assert answer.status < 500
        assert answer.message.isascii()
        assert len(answer.message) < 300
        assert answer.hint.isascii()
        json.dumps(answer.to_dict(), ensure_ascii=False).encode()


def parsed(row: dict[str, Any], num_classes: int) -> ClipRequest | ClipError:
    try:
        return parse_request(row, [f"label {index}" for index in range(num_classes)])
    except ClipError as error:
        return error


def test_each_error_that_is_raised_is_listed() -> None:
    """The list of answers has the codes that the source has, with their statuses, and no others."""
    source = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "handler").rglob("*.py"))
    raised = {(int(status), code) for code, status in re.findall(r'"([A-Z_0-9]+)",\s*([45]\d\d)\b', source)}
    raised |= {(400, code) for code in re.findall(r'_bad\(\s*"([A-Z_0-9]+)"', source)}
    assert raised == HANDLER
