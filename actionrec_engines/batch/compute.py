"""The actor that computes: contents of a part -> rows of a Parquet file, each content once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from actionrec.service import Reply, Row, Service
from actionrec.worker import DECODE_THREADS

from actionrec_client.errors import Refused
from actionrec_client.files.find import name_of
from actionrec_client.files.tables import columns, row_of
from actionrec_client.video import read as read_video

from ..archive import Archive
from .files import read, whole
from .plan import Plan
from .steps import path_of

_ROWS, _BYTES = 32, 128 << 20
"""Videos of one call: so many that the model does not wait for files, in the memory of some large ones."""
_TRIES = 3
"""For what may be answered the next time."""
_COUNTS = b"actionrec.counts"
_SEGMENT = pa.struct(
    [
        ("label", pa.string()),
        ("class_index", pa.int32()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("score", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        *columns(),
        ("hint", pa.string()),
        ("sha256", pa.string()),
        ("key", pa.string()),
        ("segments", pa.list_(_SEGMENT)),
        ("embedding", pa.list_(pa.float32())),
    ]
)
"""Those of `actionrec batch`, and: what to do about an error; the video's digest, null where it could not be
read; that with the archive's and the options'; a timeline's segments; an embedding."""


class Compute:
    """One process with a loaded model.

    Args:
        plan: the run's.
        cpus: cores for decoding.
        gpu: whether Ray has given this process a GPU, or a part of one.

    Raises:
        ValueError: the archive on this node is another one, or does not fit it.
    """

    def __init__(self, plan: Plan, cpus: float, gpu: bool) -> None:
        os.environ.setdefault(DECODE_THREADS, str(max(1, round(cpus))))
        archive = Archive.open(Path(plan.archive_path))
        if archive.digest != plan.asked.archive:
            raise ValueError(f"{plan.archive_path} is not the archive that the run began with")
        self._plan = plan
        # Nobody waits for a single video, so no call has to end at a time.
        self._service: Service = replace(archive, answer_seconds=None).load("cuda:0" if gpu else "cpu")

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Compute parts, of which those that are there are left as they are.

        Args:
            batch: ``number``: int64 [parts].
        """
        for number in batch["number"].tolist():
            self._part(number)
        return batch

    def _part(self, number: int) -> None:
        path = self._plan.part(number)
        if path.exists():
            return
        group = self._plan.group_of(number)
        contents = read(self._plan.grouped(group), number - self._plan.parts_in(group).start)
        rows = [row for content, record in self._answered(contents) for row in self._rows(content, record)]
        counts = {
            "files": len(rows),
            "contents": len(contents),
            "failed": sum(row["error"] is not None for row in rows),
        }
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        with whole(path) as partial:
            pq.write_table(
                table.replace_schema_metadata({_COUNTS: json.dumps(counts).encode()}),
                partial,
                compression="zstd",
            )

    def _answered(self, contents: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each content with its record, as `actionrec batch` has them."""
        waiting: list[tuple[dict[str, Any], bytes]] = []
        for content in contents:
            try:
                waiting.append((content, _video(content)))
            except Refused as error:
                yield content, {"error": error.to_dict()}
            if len(waiting) >= _ROWS or sum(len(video) for _, video in waiting) >= _BYTES:
                yield from self._asked(waiting)
                waiting = []
        yield from self._asked(waiting)

    def _asked(
        self, waiting: Sequence[tuple[dict[str, Any], bytes]]
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """The records of a call.

        Raises:
            RuntimeError: what may be answered the next time was not, several times: this process is not well.
        """
        for _ in range(_TRIES):
            if not waiting:
                return
            rows = [Row({"video": video, **self._plan.asked.options}) for _, video in waiting]
            again = []
            for one, reply in zip(waiting, self._service.answer(rows), strict=True):
                if reply.status == 503:
                    again.append(one)
                else:
                    yield one[0], _record(reply)
            waiting = again
        if waiting:
            raise RuntimeError(f"{len(waiting)} videos have no answer: {reply.body.decode()[:500]}")

    def _rows(self, content: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A content's rows: one for each of its names."""
        digest = content["sha256"]
        more = {
            "hint": (record.get("error") or {}).get("hint"),
            "sha256": digest,
            "key": self._plan.asked.key(digest) if digest else None,
            "segments": record.get("segments"),
            "embedding": record.get("embedding"),
        }
        for path in content["paths"]:
            yield {**row_of({"file": name_of(path_of(path)), **record}), **more}


def counts_of(path: Path) -> dict[str, int]:
    """What a part has: ``files``, ``contents``, ``failed``. Its rows are not read.

    Raises:
        FileNotFoundError: it is not there.
    """
    found: dict[str, int] = json.loads(pq.read_schema(path).metadata[_COUNTS])
    return found


def _video(content: Mapping[str, Any]) -> bytes:
    """The file with a content, under whichever name it still has.

    Raises:
        Refused: it could not be read; or it is another one since.
    """
    if not content["sha256"]:
        raise Refused(**json.loads(content["error"]))
    problem: Refused | None = None
    for path in map(path_of, content["paths"]):
        try:
            data = read_video(path)
        except Refused as error:
            problem = problem or error
            continue
        if hashlib.sha256(data).hexdigest() == content["sha256"]:
            return data
        problem = Refused(
            "VIDEO_CHANGED", 409, f"{path} was changed while the run went on.", "Begin another run for it."
        )
    assert problem is not None
    raise problem


def _record(reply: Reply) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(reply.body)
    return body if reply.status < 300 else {"error": body["error"]}
