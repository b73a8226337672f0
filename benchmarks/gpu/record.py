"""The rows of a stage, in a JSON file that is whole, and up to date, after each of them.

A row is *to do* until it is *done*, *failed* or *skipped* (this host cannot have it), with its figures or the
reason. What an earlier run did on the same machine with the same code is kept, and the others are tried again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import console

TO_DO, DONE, FAILED, SKIPPED = "to do", "done", "failed", "skipped"
Row = dict[str, Any]


class Record:
    """A stage's file. Thread-safe.

    Args:
        path: the file; one of an earlier run is continued.
        stage: name of the stage.
        identity: what rows of another run must have been made with to count: machine, versions, code.
        notes: what else stands at the top of the file.
    """

    def __init__(
        self, path: Path, stage: str, identity: Mapping[str, Any], notes: Mapping[str, Any] | None = None
    ) -> None:
        self._path = path
        self._lock = threading.RLock()  # a signal may find this thread in it
        self._closed = False
        self._begun = time.monotonic()
        self._document: dict[str, Any] = {
            "stage": stage,
            "identity": dict(identity),
            **(notes or {}),
            "seconds": 0.0,
            "goals": [],
            "rows": {},
        }
        before = read(path)
        if before.get("stage") == stage and before.get("identity") == self._document["identity"]:
            kept = {name: row for name, row in before["rows"].items() if row["state"] in (DONE, SKIPPED)}
            self._rows.update(kept)
        self._write()

    @property
    def _rows(self) -> dict[str, Row]:
        rows: dict[str, Row] = self._document["rows"]
        return rows

    def plan(self, names: Iterable[str]) -> None:
        """Note rows that are to come, so that those never reached are seen."""
        with self._lock:
            for name in names:
                self._rows.setdefault(name, {"state": TO_DO})
            self._write()

    def settled(self, name: str) -> bool:
        """Whether a row is done or skipped, in this run or an earlier one."""
        return self.row(name).get("state") in (DONE, SKIPPED)

    def put(self, name: str, state: str, **values: object) -> None:
        """Set a row, write the file, and say so in a line."""
        with self._lock:
            if self._closed:
                return
            self._rows[name] = {"state": state, **values}
            self._write()
        said = "  ".join(f"{key} {_short(value)}" for key, value in values.items() if _is_news(value, name))
        console.print(f"{state:7} {name}  {said}", markup=False, soft_wrap=True)

    def row(self, name: str) -> Row:
        """A row as it is now; empty where there is none."""
        with self._lock:
            return dict(self._rows.get(name, {}))

    def rows(self, state: str | None = None) -> dict[str, Row]:
        """The rows by name, all or those of one state."""
        with self._lock:
            return {name: dict(row) for name, row in self._rows.items() if state in (None, row["state"])}

    def close(self, goals: Iterable[Row] = ()) -> None:
        """Write the file for the last time: no row changes afterwards."""
        with self._lock:
            if not self._closed:
                self._document["goals"] = list(goals)
                self._document["passed"] = all(row["state"] in (DONE, SKIPPED) for row in self._rows.values())
                self._write()
            self._closed = True

    def _write(self) -> None:
        self._document["seconds"] = round(time.monotonic() - self._begun, 1)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._document, indent=1) + "\n", encoding="utf-8")
        partial.replace(self._path)


def read(path: Path) -> dict[str, Any]:
    """A stage's document; empty where there is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document


def _is_news(value: object, name: str) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and value not in name)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
