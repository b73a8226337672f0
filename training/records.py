"""What a run says of itself: a CSV file always, and TensorBoard's where that is installed."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .whole import whole

CSV_FILE = "log.csv"

Row = Mapping[str, float]
"""One part of a run: name of a figure -> its value. The first one is the number of the part."""


class Records:
    """The rows of a run. They are kept with its weights, so the files are always those of the steps taken.

    Args:
        folder: for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._board: Any = None

    def write(self, rows: Sequence[Row]) -> None:
        """Write the files anew: `rows` is all that there is so far, and the last one is new."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        with whole(self._folder / CSV_FILE) as file:
            file.write(text.getvalue().encode())
        if importlib.util.find_spec("tensorboard") is not None:
            self._show(rows[-1])

    def _show(self, row: Row) -> None:
        from torch.utils.tensorboard import SummaryWriter

        (_, number), *values = row.items()
        if self._board is None:
            # What a killed run wrote beyond the steps that it kept is forgotten.
            self._board = SummaryWriter(str(self._folder), purge_step=int(number))
        for name, value in values:
            self._board.add_scalar(name, value, int(number))
        self._board.flush()

    def close(self) -> None:
        """Close the files."""
        if self._board is not None:
            self._board.close()
