"""Downloads one file over HTTP into a cache: with a progress bar, resumable, complete or not at all.

The bytes go to ``<file>.part``; the file gets its name only when length and checksum are right. A part is
continued only where the server proves that it still has the same file (If-Range with the validator that came
with the first bytes); otherwise the download starts again.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from .checksum import Expected, sha256_of
from .errors import WeightsError, WeightsUnavailableError

ATTEMPTS = 5
BACKOFF_SECONDS = 1.0
"""Wait before the second attempt; doubled after each attempt."""
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""The longest silence in the middle of a download."""
CHUNK_BYTES = 1 << 16
"""Bytes that a broken connection can cost: requests gives a chunk as a whole or not at all."""

HOW_TO_PROCEED = (
    "Give weights you have (WEIGHTS=file.pyth), a URL (WEIGHTS=https://...) or a mirror "
    "(PYTORCHVIDEO_ZOO_URL=https://...), or build the bundled model: MODEL=motion."
)


class _InterruptedError(Exception):
    """An attempt ended early; the next one continues from there."""


def why_unreachable(url: str, seconds: float) -> str | None:
    """Check whether a URL answers in time: None if it does, else the reason why not.

    It uses a thread, because no time-out of `requests` covers a name server that does not answer, or limits the
    sum over all of a host's addresses.
    """
    answers: list[str | None] = []

    def probe() -> None:
        try:
            with requests.get(url, stream=True, timeout=seconds) as response:
                answers.append(None if response.ok else f"{_host(url)} answers {response.status_code}")
        except requests.RequestException as error:
            answers.append(f"cannot reach {_host(url)}: {_reason(error)}")

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"{_host(url)} does not answer within {seconds:g} s"


def download(url: str, path: Path, expected: Expected | None = None, console: Console | None = None) -> None:
    """Download a file, or the rest of it.

    Args:
        url: http or https.
        path: the file to write; its folder is made.
        expected: the checksum that the file must have; None: any.
        console: shows a progress bar; None: no output.

    Raises:
        WeightsUnavailableError: there is no network, or the server does not have the file.
        WeightsError: the checksum is another one, or the disk is full or not writable.
    """
    part = path.with_name(path.name + ".part")
    tag_file = part.with_name(part.name + ".tag")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            _lock(file, part)
            _receive_all(url, file, tag_file, console)
            file.flush()
            tag_file.unlink(missing_ok=True)
            digest = sha256_of(part)
            if expected and digest != expected.sha256:
                part.unlink()
                expected.check(digest, url, thrown_away=True)
            part.replace(path)
    except WeightsUnavailableError:
        if not part.stat().st_size:
            part.unlink()
        raise
    except OSError as error:
        # requests' exceptions are OSErrors too, but none of them leaves _receive_all.
        raise WeightsError(
            f"cannot write {error.filename or part}: {error.strerror or error}",
            "TORCH_HOME names another folder for downloads.",
        ) from error


def _receive_all(url: str, file: IO[bytes], tag_file: Path, console: Console | None) -> None:
    """Try until the part is complete."""
    reached, reason = False, ""
    with requests.Session() as session, _bar(console, Path(urlsplit(url).path).name) as (progress, task):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _receive(session, url, file, tag_file, progress, task)
                return
            except _InterruptedError as error:
                reached, reason = True, str(error)
            except requests.RequestException as error:
                reason = _reason(error)
                # No server, or no such address: more attempts would only keep an offline machine waiting.
                if not reached or not isinstance(error, requests.ConnectionError | requests.Timeout):
                    raise WeightsUnavailableError(f"cannot download {url}: {reason}", HOW_TO_PROCEED) from error
            if attempt < ATTEMPTS:
                time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
    raise WeightsUnavailableError(
        f"the download of {url} broke off {ATTEMPTS} times, at {file.tell():,} bytes: {reason}",
        "Run it again to go on from there. " + HOW_TO_PROCEED,
    )


def _receive(
    session: requests.Session, url: str, file: IO[bytes], tag_file: Path, progress: Progress, task: TaskID
) -> None:
    """Make one attempt: ask for the missing bytes, append what arrives, check the length."""
    have_bytes = file.seek(0, os.SEEK_END)
    tag = tag_file.read_text(encoding="ascii") if tag_file.exists() else ""
    headers = {"Accept-Encoding": "identity"}  # then Content-Length counts the file's own bytes
    if have_bytes and tag:
        headers |= {"Range": f"bytes={have_bytes}-", "If-Range": tag}
    with session.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as response:
        content_range = response.headers.get("Content-Range", "")
        match response.status_code:
            case 200:
                have_bytes = 0
                file.truncate(0)
                tag_file.write_text(_validator(response), encoding="ascii")
            case 206 if content_range.startswith(f"bytes {have_bytes}-"):
                pass
            case 416 if content_range == f"bytes */{have_bytes}":
                return  # the part was complete: an earlier run ended just before the rename
            case 206 | 416:
                file.truncate(0)
                raise _InterruptedError(f"the server has another file now (Content-Range: {content_range})")
            case 429 | 500 | 502 | 503 | 504:
                raise _InterruptedError(f"the server answers {response.status_code} {response.reason}")
            case _:
                raise WeightsUnavailableError(
                    f"{url} answers {response.status_code} {response.reason}", HOW_TO_PROCEED
                )
        length = response.headers.get("Content-Length")
        total_bytes = have_bytes + int(length) if length else None
        progress.update(task, completed=have_bytes, total=total_bytes, visible=True)
        try:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                progress.advance(task, len(chunk))
        except requests.RequestException as error:
            raise _InterruptedError(_reason(error)) from error
    if total_bytes is not None and file.tell() != total_bytes:
        raise _InterruptedError(f"{file.tell():,} of {total_bytes:,} bytes came")


def _validator(response: requests.Response) -> str:
    """The value for If-Range: a strong ETag, else the file's date, else nothing."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _lock(file: IO[bytes], part: Path) -> None:
    """Keep a second process from writing to the same part."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise WeightsError(
            f"another process is downloading to {part}", "Wait for it, then run this again."
        ) from error


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def _reason(error: requests.RequestException) -> str:
    """The last part of requests' nested messages: ``[Errno 111] Connection refused``."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", inner)).rsplit("connection: ", 1)[-1].rsplit("Error(", 1)[-1]


@contextmanager
def _bar(console: Console | None, title: str) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar with bytes, speed and remaining time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(quiet=True), transient=False) as progress:
        yield progress, progress.add_task(title, total=None, visible=False)
