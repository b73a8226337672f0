"""The bytes of a body -> named fields: a JSON object, a multipart form, or the video itself.

The first bytes decide what a body is, and not its Content-Type: no video begins with ``{``, ``[`` or ``--``,
and many clients send a file with a wrong type. Both parsers bound the memory that a body can take: 100 MB of
``[],[],`` would become 2 GB of lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.parser import BytesHeaderParser
from typing import Any

from .errors import ClipError

_JSON_STARTS = re.compile(rb"[ \t\r\n]{0,100}[\[{]")
_JSON_VALUES = 100  # brackets and commas in a body; a request has seven values

_FORM_FIELDS = 32
_DELIMITER = re.compile(rb"--[^\r\n]{1,70}(?=\r\n)")  # RFC 2046 allows a boundary of 70 characters
_HEADER_BYTES = 2048  # of one field; a file name has at most 255

_FORM_HINT = "Send it as curl does: curl -F video=@clip.mp4 -F top_k=3 URL"
_JSON_HINT = 'Send {"video": "<base64 of the file>", "top_k": 3}, or the file itself: curl -T clip.mp4 URL'


def not_an_object(value: object) -> ClipError:
    """The error for a JSON body that is not an object.

    Args:
        value: the parsed body.
    """
    kinds = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return ClipError(
        "BAD_BODY", 400, f"The body is {kinds.get(type(value), 'a value')} of JSON, not an object.", _JSON_HINT
    )


def read_json(body: bytes) -> Mapping[str, Any] | None:
    """Parse a body that begins like JSON; None for any other.

    Raises:
        ClipError: 400, the JSON is not an object, has more values than a request, or cannot be parsed.
    """
    if not _JSON_STARTS.match(body):
        return None
    if sum(body.count(mark) for mark in (b"{", b"[", b",")) > _JSON_VALUES:
        raise ClipError("BAD_BODY", 400, f"The JSON has more than {_JSON_VALUES} values.", _JSON_HINT)
    try:
        # Requests need no more than ASCII, and other text can take 4 bytes a character.
        value = json.loads(body.decode("ascii"))
    except ValueError as error:  # not ASCII, not JSON, or a number of thousands of digits
        why = (
            str(error)
            if isinstance(error, json.JSONDecodeError)
            else "it has bytes or numbers that no request has"
        )
        raise ClipError(
            "BAD_BODY", 400, f"The body begins like JSON but is none: {why}.", _JSON_HINT
        ) from error
    if not isinstance(value, dict):
        raise not_an_object(value)
    return value


def read_form(body: bytes) -> Mapping[str, bytes] | None:
    """Parse a multipart form: field name -> value; None for a body that does not begin like one.

    ``--b CRLF headers CRLF CRLF value CRLF --b ... CRLF --b--`` (RFC 7578).

    Raises:
        ClipError: 400, the form breaks off, has too many fields, or has a field without a name.
    """
    if not body.startswith(b"--"):
        return None
    found = _DELIMITER.match(body)
    if found is None:
        raise _bad_form("it does not begin with a boundary of 1 to 70 characters")
    delimiter = b"\r\n" + found[0]
    fields: dict[str, bytes] = {}
    place = found.end()
    while not body.startswith(b"--", place):
        head_end = body.find(b"\r\n\r\n", place, place + _HEADER_BYTES)
        if not body.startswith(b"\r\n", place) or head_end < 0:
            raise _bad_form("a field has no headers, or too many")
        name = _field_name(body[place + 2 : head_end + 2])
        end = body.find(delimiter, head_end + 2)
        if end < 0:
            raise _bad_form("it breaks off before its last boundary")
        if name in fields:
            raise _bad_form(f"it has the field {name[:40]!a} twice")
        if len(fields) == _FORM_FIELDS:
            raise _bad_form(f"it has more than {_FORM_FIELDS} fields")
        fields[name] = body[head_end + 4 : end]
        place = end + len(delimiter)
    return fields


def _field_name(headers: bytes) -> str:
    message = BytesHeaderParser().parsebytes(headers)
    name = message.get_param("name", header="content-disposition")
    if message.get_content_disposition() != "form-data" or not isinstance(name, str) or not name:
        raise _bad_form("a field has no name")
    return name


def _bad_form(why: str) -> ClipError:
    return ClipError("BAD_FORM", 400, f"The form cannot be read: {why}.", _FORM_HINT)
