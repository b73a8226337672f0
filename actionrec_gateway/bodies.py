"""Options of a query string into a body that is on its way: TorchServe drops query strings.

What a body is, its first bytes say, as in `actionrec.body`; the rest is passed on as it comes:

    a video        becomes a form:                   --own, options, --own, video, --own--
    a form         gets fields in front:             --its, options, --its, ...
    a JSON object  gets members in front:            {"top_k": "3", ...}
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from actionrec.errors import ClipError
from actionrec.request import VIDEO_FIELDS, unknown_option

OPAQUE = "application/octet-stream"
"""Type of all bodies on their way to TorchServe, which then parses no form and no JSON; the handler does."""

Options = Sequence[tuple[str, str]]

_PEEKED = 256
"""Bytes that say what a body is: white space of up to 100, or a boundary of up to 70."""
_OBJECT = re.compile(rb"[ \t\r\n]{0,100}\{")
_BOUNDARY = re.compile(rb"--[^\r\n]{1,70}(?=\r\n)")
_MOST = 32
_NAME = re.compile(r"[a-z_]{1,40}")


def options_of(query: bytes) -> Options:
    """The options in a query string, in order.

    Raises:
        ClipError: 400, a name that no option has, or one that is there twice.
    """
    try:
        found = parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=_MOST)
    except ValueError as error:
        raise ClipError(
            "BAD_OPTION", 400, f"The address has more than {_MOST} options.", "Each option once is enough."
        ) from error
    seen = set()
    for name, _ in found:
        # Other names that this gateway does not know may be options of a newer archive.
        if not _NAME.fullmatch(name) or name in VIDEO_FIELDS:
            raise unknown_option(name)
        if name in seen:
            raise ClipError(
                "CONFLICTING_OPTIONS", 400, f"The address has {name} twice.", "Give each option once."
            )
        seen.add(name)
    return found


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A body with options."""

    chunks: AsyncIterator[bytes]
    added: int
    """Bytes that it has more than before."""


async def with_options(body: AsyncIterator[bytes], options: Options) -> Wrapped:
    """Put options into a body. Only its first bytes are waited for.

    Args:
        body: as it comes.
        options: names and values.
    """
    first = b""
    async for chunk in body:
        first += chunk
        if len(first) >= _PEEKED:
            break
    place, inserted, after = _additions(first, options)

    async def chunks() -> AsyncIterator[bytes]:
        yield first[:place] + inserted + first[place:]
        async for chunk in body:
            yield chunk
        if after:
            yield after

    return Wrapped(chunks(), len(inserted) + len(after))


def form(video: bytes, options: Mapping[str, Any], boundary: str) -> bytes:
    """A multipart form of a video and options.

    Args:
        video: a whole file.
        options: of a request; numbers and truth values are written as in JSON.
        boundary: what the video does not have in it, such as random letters.

    Raises:
        ClipError: 400, a name that no option has.
    """
    for name in options:
        if not _NAME.fullmatch(name):
            raise unknown_option(name)
    texts = [(name, v if isinstance(v, str) else json.dumps(v)) for name, v in options.items()]
    before, after = _around(texts, boundary)
    return before + video + after


def _additions(first: bytes, options: Options) -> tuple[int, bytes, bytes]:
    """Where in the first bytes to insert what, and what to add at the end."""
    if found := _OBJECT.match(first):
        members = json.dumps(dict(options))[1:-1]
        empty = first[found.end() :].lstrip(b" \t\r\n").startswith(b"}")
        return found.end(), members.encode("ascii") + (b"" if empty else b", "), b""
    if found := _BOUNDARY.match(first):
        return 0, _fields(options, found[0][2:]), b""
    if first.startswith(b"--") or first.lstrip(b" \t\r\n").startswith(b"["):
        return 0, b"", b""  # refused as it is
    before, after = _around(options, secrets.token_hex(16))
    return 0, before, after


def _around(options: Options, boundary: str) -> tuple[bytes, bytes]:
    mark = boundary.encode("ascii")
    video = b'--%s\r\nContent-Disposition: form-data; name="video"; filename="video"\r\n\r\n' % mark
    return _fields(options, mark) + video, b"\r\n--%s--\r\n" % mark


def _fields(options: Options, boundary: bytes) -> bytes:
    return b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (boundary, name.encode("ascii"), value.encode("utf-8", "replace"))
        for name, value in options
    )
