"""Other servers around the same `Service`, each set up as its own documentation says.

Run as ``python -m benchmarks.peers.<name> --archive DIR --port N``. DIR is an unpacked archive, or ``null`` for
a model that answers at once, which shows the server's own cost.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NULL = "null"
NULL_REPLY: dict[str, Any] = {"predictions": [{"label": "none", "class_index": 0, "score": 1.0}]}


class Answerer:
    """Bytes of clips -> replies, from the archive's `Service`, or from a model that answers at once."""

    def __init__(self, archive: str, batch_size: int) -> None:
        self._service = None
        if archive != NULL:
            from actionrec.service import Service

            self._service = Service.load(Path(archive), rows=batch_size)

    def __call__(self, clips: Sequence[bytes]) -> list[bytes]:
        """One JSON reply per clip."""
        if self._service is None:
            return [json.dumps(NULL_REPLY).encode() for _ in clips]
        from actionrec.service import Row

        return [reply.body for reply in self._service.answer([Row({"body": clip}) for clip in clips])]


def options() -> argparse.Namespace:
    """The command line of every peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--archive", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--batch-delay", type=float, required=True, help="milliseconds to wait for more")
    return parser.parse_args()
