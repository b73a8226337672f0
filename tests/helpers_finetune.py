"""A small thing to fine-tune: the bundled model at 32 pixels, and ten clips of two labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from actionrec.limits import DEFAULT_LIMITS
from actionrec.spec import ClipSpec
from rich.console import Console
from torch import nn

from export import weights, zoo
from export.learn import data
from export.learn.data import Listing
from export.learn.embed import WINDOWS
from export.learn.finetune.augment import larger
from export.learn.finetune.clips import Clips, Room
from export.learn.finetune.method import TIMES
from export.learn.finetune.network import Network, State
from export.learn.finetune.options import Options
from export.learn.finetune.trainings import Trainings
from export.learn.progress import Step
from motion.clips import random_clip

SPEC: ClipSpec = zoo.get("motion").with_crop(32).spec
LABELS = {"away": "moving left", "near": "growing"}
VIDEOS = 5
QUICK = Options(epochs=2, folds=2, batch=4)


def write_clips(folder: Path) -> None:
    """A folder for each label with `VIDEOS` small clips."""
    for number, (label, motion) in enumerate(LABELS.items()):
        (folder / label).mkdir(parents=True)
        for seed in range(VIDEOS):
            clip = random_clip(
                900 + VIDEOS * number + seed, motion, "libx264", size=(64, 48), fps=15, seconds=2.5
            )
            (folder / label / f"{seed}.mp4").write_bytes(clip.data)


@dataclass(frozen=True)
class WithoutDropout(Network):
    """A network whose steps do not depend on which clips are taken together."""

    def build(self, state: State | None = None) -> nn.Module:
        net = super().build(state)
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return net


class Stop(Exception):
    """Raised where a run is to be interrupted."""


@dataclass
class Told:
    """A `Teller` that remembers; it interrupts a run at an event.

    Args:
        stop_at: (event, how many of it) after which `Stop` is raised; None: never.
    """

    stop_at: tuple[str, int] | None = None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    console: Console = field(default_factory=lambda: Console(quiet=True))

    def say(self, event: str, text: str, **values: object) -> None:
        self.events.append((event, {"message": text, **values}))
        if self.stop_at == (event, len(self.of(event))):
            raise Stop

    def counted(self, event: str, text: str, total: int) -> _Counted:
        return _Counted(self, event, text, total)

    def of(self, event: str) -> list[dict[str, Any]]:
        """What was told of an event."""
        return [values for name, values in self.events if name == event]


@dataclass
class _Counted:
    told: Told
    event: str
    text: str
    total: int

    def __enter__(self) -> Step:
        return lambda: self.told.say(self.event, self.text, total=self.total)

    def __exit__(self, *_: object) -> None:
        pass


def clips_of(listing: Listing, folder: Path, gigabytes: float = 1.0) -> tuple[Clips, Clips]:
    """Training windows and served windows of a list, decoded."""
    room = Room(gigabytes * 1e9)
    seen = Clips(folder / "seen", larger(SPEC), TIMES, DEFAULT_LIMITS, exact=False)
    served = Clips(folder / "served", SPEC, WINDOWS, DEFAULT_LIMITS, exact=True)
    for clips in (seen, served):
        assert clips.prepare(listing.examples, room, lambda: None) == {}
    return seen, served


def trainings_of(
    clips: Path, folder: Path, told: Told | None = None, listing: Listing | None = None, **changes: object
) -> Trainings:
    """The trainings of a run on the bundled model.

    Args:
        clips: what `write_clips` wrote.
        folder: of the run.
        told: hears of it.
        listing: what is learned from, where it is not all of the clips.
        changes: of `QUICK`.
    """
    listing = listing or data.read(clips)
    network = Network("motion", SPEC, len(listing.labels))
    net = network.build()
    path = zoo.get("motion").bundled_file
    assert path is not None
    bundled = weights.load_state(path)
    net.load_state_dict({name: one for name, one in bundled.items() if ".proj." not in name}, strict=False)
    seen, served = clips_of(listing, clips.parent / "decoded")
    options = replace(QUICK, **changes)  # type: ignore[arg-type]
    return Trainings(network, net, listing, seen, served, folder, "cpu", options, told or Told())
