"""What the fuzzer keeps on disk, so that it goes on where it was stopped.

build/fuzz/seeds/        what the corpus begins with
build/fuzz/corpus/       inputs with behaviour that no other has (libFuzzer's)
build/fuzz/candidates/   inputs that the target takes for findings
build/fuzz/findings/     <kind>-<hash>.bin, shrunk, and beside it .txt: what it does, how to do it again
build/fuzz/last          the input that the target is trying
build/fuzz/counts.json   of the target that runs
build/fuzz/state.json    of all runs
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .feedback import Behaviour
from .seeds import starts


def digest(data: bytes) -> str:
    """A name for some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


@dataclass(slots=True)
class Counts:
    """What was tried."""

    tried: int = 0
    seconds: float = 0.0
    lost: int = 0
    """Targets that died."""
    outcomes: dict[str, int] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Those of another run, too."""
        self.tried += other.tried
        self.seconds += other.seconds
        self.lost += other.lost
        self.outcomes = dict(Counter(self.outcomes) + Counter(other.outcomes))


@dataclass(slots=True)
class State:
    """Of all runs."""

    counts: Counts = field(default_factory=Counts)
    findings: dict[str, str] = field(default_factory=dict)
    """Signature -> the finding's file name."""
    sandboxed: list[str] = field(default_factory=list)
    """Names of the corpus files that the sandbox was tried on."""


class Store:
    """The directory.

    Args:
        root: where; made where it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seeds, self.corpus, self.candidates, self.findings = (
            root / name for name in ("seeds", "corpus", "candidates", "findings")
        )
        for folder in (self.seeds, self.corpus, self.candidates, self.findings):
            folder.mkdir(parents=True, exist_ok=True)
        self.last = root / "last"

    def write_seeds(self) -> int:
        """Make what the corpus begins with where it is missing; how many inputs that is."""
        names = set()
        for name, data in starts():
            names.add(name)
            path = self.seeds / name
            if not path.exists():
                path.write_bytes(data)
        for path in self.seeds.iterdir():
            if path.name not in names:
                path.unlink()
        return len(names)

    def load(self) -> State:
        """What earlier runs have left."""
        path = self.root / "state.json"
        if not path.exists():
            return State()
        found = json.loads(path.read_text(encoding="utf-8"))
        return State(Counts(**found["counts"]), found["findings"], found["sandboxed"])

    def save(self, state: State) -> None:
        """For later runs."""
        _write(self.root / "state.json", asdict(state))

    def save_counts(self, counts: Counts) -> None:
        """By the target, now and then."""
        _write(self.root / "counts.json", asdict(counts))

    def take_counts(self) -> Counts:
        """Of the target that has ended."""
        path = self.root / "counts.json"
        if not path.exists():
            return Counts()
        found = Counts(**json.loads(path.read_text(encoding="utf-8")))
        path.unlink()
        return found

    def peek_counts(self) -> Counts:
        """Of the target that runs."""
        path = self.root / "counts.json"
        return Counts(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Counts()

    def suspect(self, given: bytes, why: str) -> None:
        """Keep an input that may be a finding."""
        (self.candidates / f"{why}-{digest(given)}").write_bytes(given)

    def keep(self, given: bytes, was: int, found: Behaviour, signature: str) -> Path:
        """A finding, shrunk, with what it does beside it.

        Args:
            given: the input.
            was: its bytes before.
            found: what it does.
            signature: of the finding; its first word is the kind.
        """
        path = self.findings / f"{signature.split()[0]}-{digest(given)}.bin"
        path.write_bytes(given)
        lines = [
            signature,
            f"python -m tests.fuzz --file {path}",
            f"{len(given):,} bytes, {was:,} before it was shrunk",
            f"{found.cpu_seconds:.2f} s of CPU, {found.peak_bytes / 1_048_576:.0f} MB",
            *sorted(found.shapes),
            found.error,
        ]
        path.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def _write(path: Path, values: object) -> None:
    """At once: whoever reads it meanwhile reads the old one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(values), encoding="utf-8")
    new.replace(path)
