"""The gate before an archive: loaded as a server loads it, it gives the scores that were learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from actionrec.errors import ClipError
from actionrec.manifest import Artifact, Manifest
from actionrec.model.runtime import Runtime
from actionrec.pipeline import Classifier
from actionrec.reply import Scores
from actionrec.request import ClipRequest

from ..errors import ParityError
from ..parity import LEAST_SCORE, TOLERANCES
from .data import Example
from .embed import selection_of

Expected = tuple[tuple[Example, Scores], ...]
"""Examples with the scores of their windows, float32 [windows, classes]."""


def checked(directory: Path, manifest: Manifest, device: str, expected: Expected) -> tuple[Artifact, ...]:
    """The archive's artifacts, each that can run here with its parity.

    Args:
        directory: the unpacked archive.
        manifest: its description.
        device: where it runs here.
        expected: what it must give.

    Raises:
        ParityError: one gives other scores, or none can run here.
    """
    found = []
    for artifact in manifest.artifacts:
        parity = _parity(directory, replace(manifest, artifacts=(artifact,)), device, expected)
        found.append(replace(artifact, parity={**artifact.parity, **parity}))
    if not any(artifact.parity for artifact in found):
        raise ParityError(
            f"no artifact of {manifest.name} runs on this host", "Learn on a host that it runs on."
        )
    return tuple(found)


def _parity(directory: Path, manifest: Manifest, device: str, expected: Expected) -> dict[str, Any]:
    """How far one artifact's scores are from the expected ones; empty where it does not run here."""
    (artifact,) = manifest.artifacts
    try:
        runtime = Runtime(directory, manifest, device)
    except RuntimeError:
        return {}
    classifier = Classifier(manifest, runtime, sandbox=True)
    try:
        requests = [ClipRequest(one.path.read_bytes(), selection=selection_of(one)) for one, _ in expected]
        answers = classifier.classify(requests)
    finally:
        classifier.close()
    rows = []
    for (example, _), answer in zip(expected, answers, strict=True):
        if isinstance(answer, ClipError):
            raise ParityError(
                f"the new archive cannot read {example.path} any more: {answer.message}", answer.hint
            )
        rows += [window.scores for window in answer.answered if window.scores is not None]
    got, wanted = np.stack(rows), np.concatenate([scores for _, scores in expected])
    if got.shape != wanted.shape:
        raise ParityError(f"the new archive gives scores {list(got.shape)}, expected were {list(wanted.shape)}")
    difference = float(np.abs(got - wanted).max())
    ratio = float(np.abs(np.log(np.maximum(got, LEAST_SCORE) / np.maximum(wanted, LEAST_SCORE))).max())
    tolerance = TOLERANCES[artifact.precision]
    # Written so that a NaN fails: it compares as False with everything.
    if not (difference <= tolerance.score and ratio <= tolerance.ratio):
        raise ParityError(
            f"the new archive's {artifact.runtime} is not what was learned: scores differ by up to "
            f"{difference:.3g} (tolerance {tolerance.score:g})",
            "No archive was written. Report the archive that does this.",
        )
    return {
        "clips": len(got),
        "max_abs_score_difference": difference,
        "max_log_score_ratio": ratio,
        "top1_agreement": float((got.argmax(1) == wanted.argmax(1)).mean()),
        "tolerance": tolerance.score,
        "log_ratio_tolerance": tolerance.ratio,
    }
