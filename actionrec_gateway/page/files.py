"""The page's files, as they lie in the package: no build step, no file from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response

FOLDER = Path(__file__).parent / "files"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "frame-src 'self'",  # a report of `teach`, which may do nothing
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may load: its own files, and pictures and videos that it has made or was given."""
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for again each time: mostly 304
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:$|,|;\s*q=(?!0(?:\.0*)?\s*(?:$|,)))", re.IGNORECASE)
"""In ``Accept-Encoding``; not with ``q=0``."""


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes | None
    """The same by gzip; None: of a video, which is packed already."""
    kind: str
    tag: str


def read() -> dict[str, _File]:
    """All files of the page, by their names."""
    return {path.name: _file(path) for path in sorted(FOLDER.iterdir()) if path.suffix in _KINDS}


def response(file: _File, request: Request) -> Response:
    """A file as the answer to a request: 304 where the browser has it already."""
    packed = file.packed if _GZIP.search(request.headers.get("accept-encoding", "")) else None
    headers = {**_HEADERS, "ETag": file.tag}
    if packed is not None:
        headers |= {"Content-Encoding": "gzip", "ETag": f'{file.tag[:-1]}-gzip"'}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in known:
        headers.pop("Content-Encoding", None)
        return Response(status_code=304, headers=headers)
    return Response(packed or file.body, headers=headers, media_type=file.kind)


def _file(path: Path) -> _File:
    body = path.read_bytes()
    kind = _KINDS[path.suffix]
    packed = None if kind.startswith("video/") else gzip.compress(body, mtime=0)
    return _File(body, packed, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
