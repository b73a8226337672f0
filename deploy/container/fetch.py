"""``python -m deploy.container.fetch``: bring an archive into a pod before the server starts, and check it.

    MODEL_URL=s3://models/motion.mar MODEL_SHA256=<64 digits> -> /opt/ml/model/motion.mar and motion.mar.sha256

An archive is code: one whose bytes are not those that were asked for is refused, and nothing of it stays.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import requests
from obstore.store import from_url

FOLDER = Path("/opt/ml/model")
_CHUNK_BYTES = 2**20
_TIMEOUT_SECONDS = 60.0


class RefusedError(Exception):
    """The archive cannot be had, or is another one."""


def fetch(url: str, sha256: str, folder: Path) -> Path:
    """Bring an archive.

    Args:
        url: ``https://``, ``s3://`` or ``gs://``. Credentials are the environment's.
        sha256: what it must be, 64 hexadecimal digits.
        folder: where it goes.

    Returns:
        The archive. Its checksum lies beside it.

    Raises:
        RefusedError: it cannot be had, or its bytes are others.
    """
    name = Path(urlsplit(url).path).name
    if not name.endswith(".mar"):
        raise RefusedError(f"MODEL_URL must name an archive, *.mar, got {url!r}")
    partial = folder / f"{name}.partial"
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as out:
            for chunk in _chunks(url, name):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != sha256.lower():
            raise RefusedError(f"{url} has the sha256 {digest.hexdigest()}, and not {sha256!r}")
        partial.rename(folder / name)
    except (OSError, requests.RequestException, obstore.exceptions.BaseError) as error:
        raise RefusedError(f"{url} cannot be had: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    (folder / f"{name}.sha256").write_text(f"{digest.hexdigest()}  {name}\n", encoding="utf-8")
    return folder / name


def _chunks(url: str, name: str) -> Iterable[bytes]:
    if url.startswith(("http://", "https://")):
        with requests.get(url, stream=True, timeout=_TIMEOUT_SECONDS) as reply:
            reply.raise_for_status()
            yield from reply.iter_content(_CHUNK_BYTES)
        return
    store = from_url(url.removesuffix(f"/{name}"))
    for chunk in obstore.get(store, name).stream(_CHUNK_BYTES):
        yield bytes(chunk)


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Bring the archive that the environment names; returns the exit code."""
    try:
        folder = Path(environment.get("MODEL_FOLDER", FOLDER))
        sys.stdout.write(f"{fetch(environment['MODEL_URL'], environment['MODEL_SHA256'], folder)}\n")
        return 0
    except (RefusedError, KeyError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
