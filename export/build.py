"""The steps of a build, in order: settle what is wanted, get weights, export, compare, pack."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from actionrec.manifest import Artifact, Manifest
from actionrec.model.host import has_fast
from actionrec.model.runtime import Runtime
from rich.console import Console
from torch import nn

from . import archive, artifacts, calibrate, parity, race, weights, zoo
from .calibration import Calibration, from_folder, generated
from .errors import ExportError, WeightsError, WeightsUnavailableError
from .order import AUTO, check_decode, labels_of, limits_of, tolerance_of
from .order import Order as Order
from .quantise.choose import Quantising
from .samples import calibration_clips, sample_clips
from .weights import RANDOM, Weights
from .zoo import ZooModel

AUTO_MODEL = "slowfast_r50"
FALLBACK_MODEL = "motion"


@dataclass(frozen=True)
class Built:
    """What was built."""

    path: Path
    size_bytes: int
    manifest: Manifest
    weights_source: str
    notice: str
    """Why it is another model than the one that was hoped for; empty where it is not."""
    seconds: float


def build(order: Order, console: Console) -> Built:
    """Build an archive.

    Args:
        order: what is wanted.
        console: shows what is being done.

    Raises:
        ExportError: it cannot be built; the message says why and the hint what to do. No archive was written.
    """
    started = time.monotonic()
    # All that can be wrong with the order is said before anything slow is begun.
    targets = artifacts.choose_targets(order.runtime, order.precision, order.device, fallback=order.fallback)
    check_decode(order, targets[0].device)
    archive.check_name("VERSION", order.version)
    if order.name:
        archive.check_name("NAME", order.name)
    own_labels = labels_of(order.labels)
    limits = limits_of(order.limits)
    closeness = tolerance_of(order.int8_tolerance)
    sha256 = weights.parse_sha256(order.weights_sha256) if order.weights_sha256 else None
    if order.weights == RANDOM and sha256:
        raise ExportError(
            "WEIGHTS_SHA256 is given, but random weights have no file", "Leave one of the two out."
        )

    archive.check_parts()
    built_with = archive.built_with()
    archive.check_store(order.store)

    model, found, notice = _choose(order, sha256, console)
    name = _name(order, model)
    best = targets[0]
    wanted = " and ".join(f"{target.runtime} in {target.precision}" for target in targets)
    console.print(f"[bold]{model.name}[/] for {best.device}, {wanted}")
    compiled_for_cpu = best.device == "cpu" and best.runtime != artifacts.PORTABLE
    if compiled_for_cpu and order.precision == artifacts.AUTO and has_fast("bf16", "cpu"):
        console.print("PRECISION=bf16 would be faster on this CPU, with scores that are less exact")
    net, labels = _net(model, found, own_labels, order.seed, console)
    with archive.workspace(order.store) as directory:
        manifest = Manifest(
            name=name,
            version=order.version,
            spec=model.spec,
            weights=f"sha256:{found.sha256}" if found else RANDOM,
            artifacts=(),
            labels=labels,
            built_with=built_with,
            limits=limits,
            network=model.name,
        )
        quantising = None
        if order.precision == artifacts.INT8:
            quantising = Quantising(_calibration(order, manifest, console), closeness, console.print)
        made, lacking = exported(
            net, manifest, targets, directory, console, quantising, strict=order.runtime != artifacts.AUTO
        )
        notice += lacking
        manifest = replace(manifest, artifacts=made)
        path = archive.write(manifest, directory, order.store, sandbox=order.sandbox, decode=order.decode)
    return Built(
        path=path,
        size_bytes=path.stat().st_size,
        manifest=manifest,
        weights_source=found.source if found else f"random, seed {order.seed}",
        notice=notice.strip(),
        seconds=time.monotonic() - started,
    )


def exported(
    net: nn.Module,
    manifest: Manifest,
    targets: Sequence[artifacts.Target],
    directory: Path,
    console: Console,
    quantising: Quantising | None,
    *,
    strict: bool,
) -> tuple[tuple[Artifact, ...], str]:
    """The model as files in `directory`, each compared with the eager one, and a notice for those that there
    are not.

    Raises:
        ExportError: the last one cannot be had, or, where that is `strict`, any.
    """
    most = max(parity.clips_of(target.precision) for target in targets)
    clips = sample_clips(manifest.spec, most, parity.SEED)
    # Of int8's: those that gave the ranges, as many that judged, and where these are few, others.
    own = clips if quantising is None else torch.cat([quantising.calibration.clips, clips])[:most]
    made: list[Artifact] = []
    racing: dict[str, Runtime] = {}
    notice = ""
    for target in targets:
        console.print(f"exporting {target.runtime}, then comparing it with the eager model on clips")
        try:
            artifact = artifacts.export(net, manifest.spec, target, directory, quantising)
            runtime = _loaded(directory, replace(manifest, artifacts=(artifact,)), target.device)
            some = (own if target.precision == artifacts.INT8 else clips)[: parity.clips_of(target.precision)]
            report = parity.check(net, runtime, target.precision, some, _tolerance(target, quantising))
        except ExportError as error:
            if strict or target is targets[-1]:
                raise
            notice += f"\nThe archive has no {target.runtime} artifact: {error.message}. {error.hint}"
            continue
        made.append(replace(artifact, parity=report))
        if not strict and target.device == "cuda" and target.runtime != artifacts.PORTABLE:
            racing[target.runtime] = runtime
    return race.fastest_first(made, racing, clips, console.print), notice


def _tolerance(target: artifacts.Target, quantising: Quantising | None) -> parity.Tolerance:
    """Of a target: the user's own where it is int8."""
    tolerance = parity.TOLERANCES[target.precision]
    if quantising is None or target.precision != artifacts.INT8:
        return tolerance
    wanted = quantising.wanted
    return replace(tolerance, top1_agreement=wanted.top1_agreement, mean_score=wanted.mean_difference)


def _calibration(order: Order, manifest: Manifest, console: Console) -> Calibration:
    """The user's clips, or generated ones."""
    if order.calibration is None:
        console.print(
            "calibrating int8 on generated clips; your own give better scores: CALIBRATION=folder with videos"
        )
        return generated(manifest.spec)
    return from_folder(order.calibration, manifest.spec, manifest.limits, console.print)


def _loaded(directory: Path, manifest: Manifest, device: str) -> Runtime:
    """The exported artifact as the server loads it."""
    try:
        return Runtime(directory, manifest, device)
    except RuntimeError as error:
        raise ExportError(str(error), artifacts.compiler_hint(device)) from error


def _choose(order: Order, sha256: str | None, console: Console) -> tuple[ZooModel, Weights | None, str]:
    """Which model, its weights (None: random), and the notice for a model that is not the one hoped for."""

    def find(model: ZooModel) -> Weights | None:
        return None if order.weights == RANDOM else weights.resolve(model, order.weights, sha256, console)

    def sized(name: str) -> ZooModel:
        model = zoo.get(name)
        return model.with_crop(order.crop_pixels) if order.crop_pixels else model

    if order.model != AUTO:
        model = sized(order.model)
        return model, find(model), ""
    model = sized(AUTO_MODEL)
    # Whoever names weights, labels, a checksum or a size means a SlowFast; motion would be no answer to that.
    if order.weights or order.labels or sha256 or order.crop_pixels:
        return model, find(model), ""
    reason = weights.why_unavailable(model)
    if reason is None:
        try:
            return model, find(model), ""
        except WeightsUnavailableError as error:
            reason = error.message
    fallback = zoo.get(FALLBACK_MODEL)
    notice = (
        f"The weights of {AUTO_MODEL} are not here and could not be fetched ({reason}), so this is "
        f"{FALLBACK_MODEL}, the small bundled model. To get {AUTO_MODEL}: MODEL={AUTO_MODEL} with a network, "
        f"or WEIGHTS=file.pyth."
    )
    return fallback, find(fallback), notice


def _name(order: Order, model: ZooModel) -> str:
    """The endpoint's name, which must not be that of a model it is not."""
    name = order.name or model.name
    if name in zoo.NAMES and name != model.name:
        raise ExportError(
            f"NAME={name} would be the name of another model than {model.name}, which is in it",
            "Leave NAME out, or choose one of your own.",
        )
    return name


def _net(
    model: ZooModel, found: Weights | None, own_labels: tuple[str, ...] | None, seed: int, console: Console
) -> tuple[nn.Module, tuple[str, ...]]:
    """The eager model with its weights, in evaluation mode, and its labels."""
    labels = own_labels or model.labels()
    if found is None:
        console.print(f"random weights, seed {seed}, calibrated on generated clips")
        net = model.build(model.spec, len(labels))
        calibrate.randomise(net, seed)
        calibrate.calibrate(net, model, calibration_clips(model.spec, calibrate.CLIPS, seed))
        return net, labels
    console.print(
        f"weights {found.source}\nsha256  {found.sha256}", soft_wrap=True, markup=False, highlight=False
    )
    state = weights.load_state(found.path)
    classes = weights.head_classes(state, found.path, model)
    if classes != len(labels):
        whose = "LABELS has" if own_labels else f"{model.name} has"
        raise WeightsError(
            f"{found.path} tells {classes} classes apart, but {whose} {len(labels)} labels",
            "Give the file with the labels it was trained on: LABELS=labels.txt, one a line, in class order.",
        )
    net = model.build(model.spec, classes)
    weights.load_into(net, state, found.path)
    weights.remember(found, console)
    return net, labels
