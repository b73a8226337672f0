"""A model in one runtime and precision, and whether this host can have it.

The network, random and calibrated, and the clips of the gate are made once and kept beside the artifacts.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from actionrec.model.host import has_fast, why_slow
from actionrec.model.runtime import DTYPES

from benchmarks.gpu.plan import EAGER, R50
from export import artifacts, calibrate, parity, zoo
from export.errors import ExportError
from export.samples import calibration_clips, sample_clips
from export.zoo import ZooModel


@dataclass(frozen=True)
class Form:
    """What is built, checked and timed."""

    model: str
    runtime: str
    """A key of `EXPORTERS`, or `EAGER`."""
    precision: str
    device: str
    """``cpu``, ``cuda`` or one GPU (``cuda:1``)."""
    crop: int | None = None

    @property
    def name(self) -> str:
        """As in the records: ``slowfast_r50 aoti fp16``, and which GPU where that is named."""
        index = f" {self.device}" if ":" in self.device else ""
        return f"{self.model} {self.runtime} {self.precision}{index}"

    @property
    def arguments(self) -> list[str]:
        """The command line of its process, but for the folder."""
        words = ["--model", self.model, "--runtime", self.runtime, "--precision", self.precision]
        return [*words, "--device", self.device, *(["--crop", str(self.crop)] if self.crop else [])]

    @property
    def folder(self) -> str:
        """Name of the folder of its artifact, which serves every GPU of a host."""
        return f"{self.model}-{self.runtime}-{self.precision}"


def zoo_model(name: str, crop: int | None) -> ZooModel:
    """A model of the zoo; the full-size network at another crop where one is given."""
    model = zoo.get(name)
    return model.with_crop(crop) if crop and name == R50 else model


def prepare(model: ZooModel, folder: Path) -> None:
    """Make the network's weights, and as many clips as most gates want, unless they are there."""
    weights, clips = folder / f"{model.name}.pth", folder / f"{model.name}-clips.npy"
    if weights.exists() and clips.exists():
        return
    if model.bundled_file:
        shutil.copyfile(model.bundled_file, weights)
    else:
        net = model.build(model.spec, len(model.labels()))
        calibrate.randomise(net, 0)
        calibrate.calibrate(net, model, calibration_clips(model.spec, calibrate.CLIPS, 0))
        torch.save(net.state_dict(), weights)
    np.save(clips, sample_clips(model.spec, parity.ROUNDED_CLIPS, parity.SEED).numpy())


def why_not(form: Form) -> str | None:
    """Why this host cannot have a form; None where it can."""
    kind = torch.device(form.device).type
    if not has_fast(form.precision, form.device):
        return why_slow(form.precision, form.device)
    if form.runtime == EAGER:
        known = DTYPES[form.precision].is_floating_point
        return None if known else f"eager torch has no model of {form.precision}"
    try:
        artifacts.choose_targets(form.runtime, form.precision, kind, fallback=False)
    except ExportError as error:
        return error.message
    compiled = form.runtime != artifacts.PORTABLE
    if compiled and not shutil.which("g++"):
        return "there is no g++"
    return None
