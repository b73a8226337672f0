"""The body of a request that makes a job: its video goes to the disk as it comes, its fields stay in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from actionrec.errors import ClipError
from actionrec.request import VIDEO_FIELDS
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from .files import NewFile, no_room, room_on_disk

IDLE_SECONDS = 60.0
"""The longest time between two pieces of a body."""
_MOST_FIELD_BYTES = 8192
_MOST_FIELDS = 32
_MOST_JSON_BYTES = 1 << 16
_MOST_HEADER_BYTES = 8192
_BLOCK_BYTES = 1 << 20
"""Written to the disk at a time."""


@dataclass(slots=True)
class Upload:
    """What came in a body."""

    fields: dict[str, Any] = field(default_factory=dict)
    has_video: bool = False
    """Whether the file has it."""


async def received(request: Request, file: NewFile, most_bytes: int, free_bytes: int) -> Upload:
    """Read a body.

    Args:
        request: whose.
        file: where its video goes.
        most_bytes: of a video.
        free_bytes: room for it.

    Raises:
        ClipError: 400, 413, 415; 507, the disk is full.
    """
    length = request.headers.get("content-length", "0")
    size = int(length) if length.isdigit() else 0
    if size > most_bytes + _MOST_FIELDS * _MOST_FIELD_BYTES:
        raise too_large(most_bytes)
    if size > free_bytes:
        raise no_room()
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    try:
        if kind == b"application/json":
            return Upload(await _json(request))
        video = _Video(file, most_bytes)
        if kind == b"multipart/form-data":
            return await _form(request, parameters.get(b"boundary", b""), video)
        async for chunk in _chunks(request):
            await video.write(chunk)
        await video.flush()
    except (ClientDisconnect, TimeoutError) as error:
        message = "The connection ended before the video did."
        raise ClipError("REQUEST_TIMEOUT", 408, message, "Send it again.") from error
    return Upload(has_video=video.begun)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises:
        TimeoutError: it stands still.
        ClientDisconnect: it breaks off.
    """
    stream = request.stream()
    while True:
        async with asyncio.timeout(IDLE_SECONDS):
            chunk = await anext(stream, None)
        if chunk is None:
            return
        yield chunk


class _Video:
    """Writes a video in blocks, in a thread."""

    def __init__(self, file: NewFile, most_bytes: int) -> None:
        self._file, self._most_bytes = file, most_bytes
        self._block = bytearray()
        self._count = 0

    @property
    def begun(self) -> bool:
        return self._count > 0

    async def write(self, data: bytes) -> None:
        self._count += len(data)
        if self._count > self._most_bytes:
            raise too_large(self._most_bytes)
        self._block += data
        if len(self._block) >= _BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        block, self._block = bytes(self._block), bytearray()
        with room_on_disk():
            await asyncio.to_thread(self._file.write, block)


async def _json(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in _chunks(request):
        body += chunk
        if len(body) > _MOST_JSON_BYTES:
            hint = "JSON is for a job by address. Send a file as the body itself, or as a form."
            raise ClipError("TOO_LARGE", 413, f"The JSON has more than {_MOST_JSON_BYTES:,} bytes.", hint)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ClipError("BAD_JSON", 400, "The body is no JSON.", 'Send {"url": "https://..."}.') from error
    if not isinstance(found, dict):
        raise ClipError("BAD_JSON", 400, "The JSON is no object.", 'Send {"url": "https://..."}.')
    if any(name in found for name in VIDEO_FIELDS):
        hint = "Send the file as the body itself (curl -X POST -T clip.mp4), or as a form."
        raise ClipError("BAD_JSON", 400, "A job's video cannot come in JSON.", hint)
    return found


class _Parts:
    """What the parser of a form has found since it was last asked."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes]] = []

    def callbacks(self) -> Mapping[str, Any]:
        def simple(name: str) -> Any:  # noqa: ANN401
            return lambda: self.events.append((name, b""))

        def data(name: str) -> Any:  # noqa: ANN401
            return lambda chunk, start, end: self.events.append((name, chunk[start:end]))

        return {
            "on_part_begin": simple("begin"),
            "on_part_data": data("data"),
            "on_part_end": simple("end"),
            "on_header_field": data("name"),
            "on_header_value": data("value"),
            "on_header_end": simple("header"),
            "on_headers_finished": simple("headers"),
            "on_end": simple("all"),
        }


class _Form:
    """A form as its parts come."""

    def __init__(self, video: _Video) -> None:
        self.upload = Upload()
        self.whole = False
        self._video = video
        self._field = ""
        self._value = bytearray()
        self._header = [bytearray(), bytearray()]
        self._disposition = b""

    async def take(self, what: str, data: bytes) -> None:
        if what == "data":
            await self._data(data)
        elif what in ("name", "value"):
            part = self._header[what == "value"]
            part += data
            if len(part) > _MOST_HEADER_BYTES:
                raise _bad_form("A header in it is too long.")
        elif what == "header":
            if bytes(self._header[0]).lower() == b"content-disposition":
                self._disposition = bytes(self._header[1])
            self._header = [bytearray(), bytearray()]
        elif what == "headers":
            self._begin(parse_options_header(self._disposition)[1].get(b"name", b""))
        elif what == "end":
            await self._end()
        elif what == "begin":
            self._disposition = b""
        else:
            self.whole = True

    def _begin(self, name: bytes) -> None:
        self._field = name.decode("utf-8", "replace")
        self._value = bytearray()
        names = self.upload.fields
        if self._field in VIDEO_FIELDS:
            if self.upload.has_video:
                raise ClipError("TWO_VIDEOS", 400, "The form has two videos.", "Send one video a job.")
            self.upload.has_video = True
        elif self._field in names or len(names) >= _MOST_FIELDS:
            raise _bad_form("It has a field twice, or too many fields.")

    async def _data(self, data: bytes) -> None:
        if self._field in VIDEO_FIELDS:
            await self._video.write(data)
            return
        self._value += data
        if len(self._value) > _MOST_FIELD_BYTES:
            raise _bad_form(f"A field in it has more than {_MOST_FIELD_BYTES:,} bytes.")

    async def _end(self) -> None:
        if self._field in VIDEO_FIELDS:
            await self._video.flush()
        else:
            self.upload.fields[self._field] = self._value.decode("utf-8", "replace")


async def _form(request: Request, boundary: bytes, video: _Video) -> Upload:
    if not boundary or len(boundary) > 70:
        raise _bad_form("It has no proper boundary.")
    parts, form = _Parts(), _Form(video)
    parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]

    try:
        async for chunk in _chunks(request):
            parser.write(chunk)
            events, parts.events = parts.events, []
            for what, data in events:
                await form.take(what, data)
    except MultipartParseError as error:
        raise _bad_form("It is not put together as a form.") from error
    if not form.whole:
        raise _bad_form("Its end is missing.")
    if form.upload.has_video and not video.begun:
        form.upload.has_video = False
    return form.upload


def too_large(most_bytes: int) -> ClipError:
    """The error for a video over the limit."""
    hint = "Cut it, or re-encode it at a lower bit rate."
    return ClipError(
        "TOO_LARGE", 413, f"The video has more than the {most_bytes:,} bytes that are allowed.", hint
    )


def _bad_form(why: str) -> ClipError:
    return ClipError(
        "BAD_FORM", 400, f"The form cannot be read. {why}", "curl -F video=@clip.mp4 makes a good one."
    )
