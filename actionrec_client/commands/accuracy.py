"""Records of an evaluation -> how often the model is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

TOP = 5


@dataclass(slots=True)
class Accuracy:
    """Counts of videos; all shares are of those that were answered."""

    failed: int = 0
    """Videos that got no answer."""
    taken_for: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answered videos by (true label, best label), the right ones too."""
    right5: Counter[str] = field(default_factory=Counter)
    """Videos whose true label is among the best five, by that label."""

    @property
    def of_class(self) -> Counter[str]:
        """Answered videos by their true label."""
        counts: Counter[str] = Counter()
        for (true, _), count in self.taken_for.items():
            counts[true] += count
        return counts

    @property
    def right(self) -> Counter[str]:
        """Videos whose best label is the true one, by that label."""
        return Counter({true: count for (true, said), count in self.taken_for.items() if true == said})

    @property
    def answered(self) -> int:
        """Videos that got an answer."""
        return self.taken_for.total()

    @property
    def top1(self) -> int:
        """Videos whose best label is the true one."""
        return self.right.total()

    @property
    def top5(self) -> int:
        """Videos whose true label is among the best five."""
        return self.right5.total()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record of the journal."""
        if "error" in record:
            self.failed += 1
            return
        true = str(record["label"])
        said = record["predictions"]
        # A list may name classes by their number; what the model calls that class is its label.
        names = [str(p["class_index"]) if _is_number(true) else p["label"] for p in said[:TOP]]
        self.taken_for[true, names[0]] += 1
        if true in names:
            self.right5[true] += 1

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Accuracy:
        """Count all records of a journal."""
        counted = cls()
        for record in records:
            counted.add(record)
        return counted

    @property
    def labels(self) -> list[str]:
        """Every label that is true of a video or said of one, sorted; numbers by their size."""
        names = {name for pair in self.taken_for for name in pair}
        return sorted(names, key=lambda name: (int(name), "") if _is_number(name) else (0, name))

    def confusion(self) -> npt.NDArray[np.int64]:
        """int64 [labels, labels]: the true label, then the best one."""
        place = {label: number for number, label in enumerate(self.labels)}
        matrix = np.zeros((len(place), len(place)), dtype=np.int64)
        for (true, said), count in self.taken_for.items():
            matrix[place[true], place[said]] = count
        return matrix

    def confused(self) -> list[tuple[str, str, int]]:
        """(true label, wrong label, how often), most often first."""
        wrong = [(true, said, count) for (true, said), count in self.taken_for.items() if true != said]
        return sorted(wrong, key=lambda entry: (-entry[2], entry))

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        total, right = max(self.answered, 1), self.right
        return {
            "answered": self.answered,
            "failed": self.failed,
            "top1": round(self.top1 / total, 6),
            "top5": round(self.top5 / total, 6),
            "top1_count": self.top1,
            "top5_count": self.top5,
            "classes": {
                label: {"videos": count, "top1": right[label], "top5": self.right5[label]}
                for label, count in sorted(self.of_class.items())
            },
            "confused": [{"label": a, "taken_for": b, "videos": n} for a, b, n in self.confused()],
        }


def _is_number(label: str) -> bool:
    """Whether a label is the number of its class, in digits of ASCII."""
    return label.isascii() and label.isdecimal()
