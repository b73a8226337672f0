"""The gateways that share a database, and which of them are dead.

dbos gives a job to one executor and leaves it there: somebody has to say that an executor is dead. Each life of
a gateway is an executor of its own, whose name is never used again, so that "dead" stays true. It is said by
another gateway, for one of three reasons:

- it ended in order and says so;
- it ran on this machine, and the lock that it held in its run_dir can be had;
- its counter stood still for `SILENT_SECONDS` while this gateway could read it all the time.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .database import GATEWAYS

SILENT_SECONDS = 15.0


class Fleet:
    """This gateway among the others.

    Args:
        engine: of `database.connect`.
        run_dir: of this gateway; several may share one.
    """

    def __init__(self, engine: sa.Engine, run_dir: Path) -> None:
        self._engine = engine
        self._locks = run_dir / "gateways"
        self._locks.mkdir(parents=True, exist_ok=True)
        self.store = _identity(run_dir / "store-id")
        """Name of the run_dir."""
        self.executor = uuid.uuid4().hex
        """Name of this life of this gateway."""
        self._machine = _machine()
        self._lock = (self._locks / self.executor).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._seen: dict[str, tuple[int, float]] = {}

    def join(self) -> None:
        """Be known to the others."""
        row = {
            "executor": self.executor,
            "store": self.store,
            "machine": self._machine,
            "beat": 0,
            "gone": False,
        }
        with self._engine.begin() as connection:
            connection.execute(sa.insert(GATEWAYS).values(row))

    def beat(self) -> bool:
        """Show that this gateway is alive; False: the others believe that it is not."""
        mine = GATEWAYS.c.executor == self.executor
        with self._engine.begin() as connection:
            beaten = sa.update(GATEWAYS).where(mine, ~GATEWAYS.c.gone).values(beat=GATEWAYS.c.beat + 1)
            return bool(connection.execute(beaten).rowcount)

    def leave(self) -> None:
        """Say that this gateway works on nothing any more."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(GATEWAYS).where(GATEWAYS.c.executor == self.executor).values(gone=True)
            )

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()
        with suppress(OSError):
            (self._locks / self.executor).unlink()

    def dead(self) -> list[str]:
        """Executors that are dead and not buried yet."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(GATEWAYS).where(GATEWAYS.c.executor != self.executor)).all()
        now = time.monotonic()
        # Those that have moved are seen for the first time.
        self._seen = {
            row.executor: before
            if (before := self._seen.get(row.executor)) is not None and before[0] == row.beat
            else (row.beat, now)
            for row in rows
        }
        return [row.executor for row in rows if self._is_dead(row, now)]

    def _is_dead(self, row: sa.Row[Any], now: float) -> bool:
        if row.gone or now - self._seen[row.executor][1] > SILENT_SECONDS:
            return True
        here = (row.store, row.machine) == (self.store, self._machine)
        return here and _can_be_had(self._locks / row.executor)

    def unseen(self) -> None:
        """Forget how long the others have been silent: the database could not be read."""
        self._seen.clear()

    def bury(self, executor: str) -> None:
        """Forget a dead executor; what it had is somebody else's."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(GATEWAYS).where(GATEWAYS.c.executor == executor))
        with suppress(OSError):
            (self._locks / executor).unlink()

    def apart(self) -> bool:
        """Whether a gateway is alive that has another run_dir."""
        asked = sa.select(sa.func.count()).where(GATEWAYS.c.store != self.store, ~GATEWAYS.c.gone)
        with self._engine.connect() as connection:
            return bool(connection.execute(asked).scalar_one())


def _identity(path: Path) -> str:
    """A name that a folder keeps."""
    with suppress(FileExistsError):
        new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        new.write_text(uuid.uuid4().hex, encoding="ascii")
        try:
            os.link(new, path)  # whole or not at all, and the first one wins
        finally:
            new.unlink()
    return path.read_text(encoding="ascii").strip()


def _machine() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _can_be_had(lock: Path) -> bool:
    """Whether nobody holds a lock."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return False  # no such file, or no such lock: the counter tells
    return True
