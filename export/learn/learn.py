"""The steps of learning, in order: read the list, get the base archive, learn, check, pack, report."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from actionrec.manifest import CONFIG_FILE, Manifest

from .. import archive, artifacts, build, checksum, zoo
from ..errors import ArchiveError, ExportError
from . import base, data, head
from .check import checked
from .data import Listing
from .finetune.options import Options
from .method import Method, Outcome, Task
from .progress import Teller
from .report import page

FINETUNE = "finetune"


def _finetune(task: Task) -> Outcome:
    from .finetune.method import learn as finetune  # Lightning takes seconds to import

    return finetune(task)


METHODS: dict[str, Method] = {"head": head.learn, FINETUNE: _finetune}
"""By the name that METHOD gives."""
_ANYWHERE: dict[str, Any] = {"runtime": artifacts.PORTABLE, "precision": "fp32", "device": "cpu"}
"""How a base is built whose weights are trained."""
REPORT_SUFFIX = ".report.html"


@dataclass(frozen=True)
class Order:
    """What is to be learned; every field is one of the Makefile's variables."""

    data: Path
    name: str
    """Of the archive and the endpoint."""
    model: str = build.AUTO_MODEL
    """A name of `export.zoo`, or an archive."""
    method: str = "head"
    videos: Path | None = None
    """Folder that the paths of a list start from; None: that of the list."""
    frame_rate: float | None = None
    """By which a Label Studio project counts."""
    runtime: str = artifacts.AUTO
    precision: str = artifacts.AUTO
    device: str = artifacts.AUTO
    version: str = "1.0"
    store: Path = Path("model_store")
    options: Options = field(default_factory=Options)
    """Of fine-tuning."""

    def wanted(self) -> build.Order:
        """What is asked of an archive's artifacts."""
        return build.Order(model=self.model, runtime=self.runtime, precision=self.precision, device=self.device)

    def base_wanted(self) -> build.Order:
        """The archive to learn on. To be fine-tuned it needs weights as they were trained."""
        if self.method == FINETUNE:
            named = build.Order(model=self.model)
            return named if Path(self.model).suffix == base.ARCHIVE_SUFFIX else replace(named, **_ANYWHERE)
        return self.wanted()


@dataclass(frozen=True)
class Learned:
    """What came out."""

    path: Path
    """The archive."""
    report: Path
    manifest: Manifest
    outcome: Outcome
    seconds: float


def learn(order: Order, tell: Teller) -> Learned:
    """Learn labels, and build an archive that has them.

    Args:
        order: what is wanted.
        tell: gets what happens on the way.

    Raises:
        ExportError: it cannot be done; the message says why and the hint what to do. No archive was written.
    """
    started = time.monotonic()
    method = METHODS.get(order.method)
    if method is None:
        raise ExportError(f"METHOD={order.method} is not in this version", f"There is {', '.join(METHODS)}.")
    archive.check_name("NAME", order.name)
    archive.check_name("VERSION", order.version)
    if order.name in zoo.NAMES:
        raise ExportError(f"NAME={order.name} is the name of a model", "Choose one of your own.")
    archive.check_parts()
    built_with = archive.built_with()
    archive.check_store(order.store)
    listing = _listed(order, tell)
    found = base.find(order.base_wanted(), tell.console)
    with archive.workspace(order.store) as directory:
        unpacked = directory / "base"
        manifest = base.unpack(found, unpacked)
        tell.say("base", f"learning on {manifest.name} ({found})", name=manifest.name, archive=str(found))
        device = base.host_device(manifest)
        try:
            task = Task(listing, manifest, unpacked, device, tell, order.name, order.wanted(), order.options)
            outcome = method(task)
        except RuntimeError as error:
            raise ArchiveError(str(error), "Learn on a host that the archive runs on.") from error
        new = replace(
            manifest,
            name=order.name,
            version=order.version,
            weights=outcome.weights,
            artifacts=outcome.artifacts,
            labels=outcome.listing.labels,
            built_with=built_with,
            learned=_described(order, manifest, outcome, built_with["created"]),
            unsure_below=round(outcome.measured.unsure_below, 4),
        )
        device = base.host_device(new)
        new = replace(new, artifacts=checked(unpacked, new, device, outcome.expected))
        path, report = _packed(order, new, outcome, directory, device)
    learned = Learned(path, report, new, outcome, time.monotonic() - started)
    _tell(learned, tell)
    return learned


def _listed(order: Order, tell: Teller) -> Listing:
    listing = data.read(order.data, order.videos, order.frame_rate)
    for note in listing.notes:
        tell.say("note", f"note: {note}")
    for one in listing.left_out:
        tell.say("left_out", f"left out: {one.path}: {one.reason}", path=str(one.path), reason=one.reason)
    listing.check()
    videos = listing.videos()
    counts = ", ".join(f"{label} {count}" for label, count in videos.items())
    tell.say(
        "read", f"{len(listing.examples)} examples of {len(videos)} labels; videos: {counts}", videos=videos
    )
    return listing


def _described(order: Order, manifest: Manifest, outcome: Outcome, created: str) -> dict[str, Any]:
    """`Manifest.learned`: plain values."""
    listing = outcome.listing
    return {
        "method": order.method,
        "base": {"name": manifest.name, "network": manifest.network, "weights": manifest.weights},
        "data": {
            "sha256": listing.sha256,
            "videos": listing.videos(),
            "examples": {
                label: sum(one.label == label for one in listing.examples) for label in listing.labels
            },
            "left_out": len(listing.left_out),
        },
        "accuracy": {**outcome.measured.to_dict(listing.labels), "how": outcome.how},
        "settings": dict(outcome.settings),
        "date": created,
    }


def _packed(
    order: Order, manifest: Manifest, outcome: Outcome, directory: Path, device: str
) -> tuple[Path, Path]:
    """The archive and its report in the store: both, or neither."""
    sandbox = yaml.safe_load((directory / "base" / CONFIG_FILE).read_text(encoding="utf-8"))["handler"][
        "sandbox"
    ]
    shelf = directory / "shelf"
    shelf.mkdir()
    built = archive.write(manifest, directory / "base", shelf, sandbox=sandbox)
    shutil.rmtree(directory / "base")
    # As the server has it: out of the file that it is given.
    again = directory / "again"
    checked(again, base.unpack(built, again), device, outcome.expected[:1])
    shutil.rmtree(again)
    report = shelf / f"{order.name}{REPORT_SUFFIX}"
    report.write_text(
        page(order.name, outcome.listing, outcome.measured, dict(manifest.learned)), encoding="utf-8"
    )
    for file in (report, checksum.file_of(built), built):  # the archive last: it is what counts
        file.replace(order.store / file.name)
    return order.store / built.name, order.store / report.name


def _tell(learned: Learned, tell: Teller) -> None:
    measured = learned.outcome.measured
    low, high = measured.plain.interval()
    tell.say(
        "learned",
        f"{measured.words}\n"
        f"accuracy    {measured.plain.value:.1%} ({low:.1%} to {high:.1%}), on videos it has not learned from\n"
        f"archive     {learned.path} ({learned.path.stat().st_size / 1e6:.1f} MB, in {learned.seconds:.0f} s)\n"
        f"report      {learned.report}",
        archive=str(learned.path),
        report=str(learned.report),
        **learned.manifest.learned["accuracy"],
    )
