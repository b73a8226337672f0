"""An archive's description of itself: this project's part of ``model-config.yaml``.

`export` writes it, `actionrec` reads it. TorchServe reads its own keys (workers, batch size, time-outs)
from the same file and ignores the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .limits import Limits
from .spec import ClipSpec

CONFIG_FILE = "model-config.yaml"
LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class Artifact:
    """One exported form of the model: a file that runs without the code that built it."""

    runtime: str
    """``torchscript``, which runs anywhere; ``aoti`` and ``tensorrt``, compiled for one kind of host;
    ``compile``, compiled when it is loaded."""
    precision: str
    """``fp32``, ``tf32``, ``fp16``, ``bf16`` or ``int8``."""
    device: str
    """The device that it is exported for: ``cpu`` or ``cuda``."""
    file: str
    """Its name inside the archive."""
    batch: int | None = None
    """The only batch size that it takes; None: any."""
    built_on: Mapping[str, Any] = field(default_factory=dict)
    """The host that compiled code needs (`host.fingerprint`); empty where the artifact is not compiled."""
    parity: Mapping[str, Any] = field(default_factory=dict)
    """How far its scores are from the eager model's; see `export.parity`."""
    batch_ms: float | None = None
    """Milliseconds of a batch on the GPU where it was built, if there was a choice (`export.race`)."""
    quantisation: Mapping[str, Any] = field(default_factory=dict)
    """Of int8: what it was calibrated on, and what stayed in floating point; see `export.quantise.choose`."""

    def to_dict(self) -> dict[str, Any]:
        """One entry of the configuration's and the description's ``forms``."""
        values = asdict(self)
        return {"artifact" if name == "file" else name: value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Artifact:
        """The inverse of `to_dict`.

        Raises:
            TypeError: a value is missing, or unknown.
        """
        return cls(**{"file" if name == "artifact" else name: value for name, value in values.items()})


@dataclass(frozen=True)
class Manifest:
    """The model in an archive, and how it was built."""

    name: str
    """The endpoint's name: ``slowfast_r50``, ``motion``, or the user's ``NAME``."""
    version: str
    spec: ClipSpec
    weights: str
    """``sha256:<hex>`` of the weights file, or ``random``."""
    artifacts: tuple[Artifact, ...]
    """The best first: the first one that the host can run is served."""
    labels: tuple[str, ...]
    """One per class, in the order of the model's scores."""
    built_with: Mapping[str, Any] = field(default_factory=dict)
    """Versions and host of the build."""
    limits: Limits = field(default_factory=Limits)
    """What a request may ask for and cost."""
    network: str = ""
    """The network's name in `export.zoo`; empty in archives from before this field."""
    learned: Mapping[str, Any] = field(default_factory=dict)
    """What the labels were learned from, how, and how well (`export.learn`); empty where they came with the
    weights."""
    unsure_below: float | None = None
    """A reply whose best score is lower warns that the video may show none of the labels. None: none warns."""

    def write(self, directory: Path, serving: Mapping[str, Any]) -> Path:
        """Write ``model-config.yaml`` and ``labels.txt``.

        Args:
            directory: folder for the two files.
            serving: TorchServe's own keys (``batchSize`` and so on).

        Returns:
            The path of the written ``model-config.yaml``.
        """
        values = self._to_dict()
        del values["labels"]
        (directory / LABELS_FILE).write_text("".join(f"{label}\n" for label in self.labels), encoding="utf-8")
        path = directory / CONFIG_FILE
        document = {**serving, "actionrec": values}
        path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read what `write` wrote.

        Raises:
            ValueError: the files do not make a manifest.
            FileNotFoundError: a file is missing.
        """
        path = directory / CONFIG_FILE
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            values = dict(document["actionrec"])
            spec = ClipSpec.from_dict(values.pop("spec"))
            limits = Limits.from_dict(values.pop("limits", {}))
            artifacts = tuple(Artifact.from_dict(each) for each in values.pop("forms"))
            labels = read_labels(directory / LABELS_FILE)
            return cls(**values, spec=spec, artifacts=artifacts, labels=labels, limits=limits)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is not an archive's configuration: {error!r}") from error

    def describe(self) -> dict[str, Any]:
        """The reply to ``GET /models/<name>?customized=true``, with the number of labels in place of the
        labels.
        """
        values = self._to_dict()
        values["spec"] = self.spec.describe()
        values["labels"] = len(self.labels)
        return values

    def _to_dict(self) -> dict[str, Any]:
        """All values; the artifacts are called ``forms`` there, the interface's older name."""
        values = asdict(self)
        del values["artifacts"]
        return {**values, "spec": self.spec.to_dict(), "forms": [each.to_dict() for each in self.artifacts]}


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the labels in a text file: one a line, in class order; blank lines at the end do not count.

    Raises:
        ValueError: there is no label, a blank line between labels, or a label that stands twice.
    """
    labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines())
    if not labels or not all(labels):
        raise ValueError(f"{path} must have one label a line and no blank line between them")
    if len(set(labels)) != len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise ValueError(f"{path} names a label more than once: {', '.join(twice[:5])}")
    return labels
