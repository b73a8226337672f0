"""``python -m export``: builds an archive and shows what was built."""

from __future__ import annotations

import argparse
import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from .build import Built, Order, build
from .errors import ExportError
from .weights import RANDOM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        Exit code: 0; 1 where nothing was built; 130 after Ctrl-C.
    """
    # TorchServe runs TorchScript; torch warns at every use that it will be replaced.
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
    # torch logs this on hosts with nvcc and no GPU; that a CPU is used is no news.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    order = _parse(arguments)
    try:
        built = build(order, Console())
    except ExportError as error:
        errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        errors.print(f"error: {error.message} ({error.code})", style="red")
        if error.hint:
            errors.print(f"hint:  {error.hint}")
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; run this again and a download continues from where it stopped")
        return 130
    _show(built, Console())
    return 0


def _parse(arguments: Sequence[str] | None) -> Order:
    """Parse the command line. An empty value counts as not given: the Makefile passes all of its variables."""
    own = Order()
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Build a TorchServe archive of an action recognition model.",
        epilog="PYTORCHVIDEO_ZOO_URL names a mirror of the folder of the published weights, "
        "TORCH_HOME the folder for downloads.",
    )
    add = parser.add_argument
    add("--model", default=own.model, help="auto, or one of the models; auto: slowfast_r50, else motion")
    add("--name", default="", help="name of the archive and the endpoint; default: the model's")
    add("--weights", default="", help="a file, an http(s) URL, or 'random'; default: the model's own")
    add("--weights-sha256", default="", help="checksum that the weights file must have")
    add("--labels", default="", help="text file, one label a line in class order; default: the model's own")
    add(
        "--runtime", default=own.runtime, help="torchscript, aoti, compile, tensorrt, or auto: the fastest here"
    )
    add("--fallback", default="1", choices=("", "0", "1"), help="0: no portable artifact beside a compiled one")
    add("--precision", default=own.precision, help="auto, fp32, tf32, fp16, bf16 or int8; auto: fp16 on CUDA")
    add("--calibration", default="", help="of int8: a folder with your videos; default: generated clips")
    add("--int8-tolerance", default="", help="'top1_agreement=0.95 mean_score_difference=0.05'")
    add("--device", default=own.device, help="auto, cpu or cuda")
    add(
        "--sandbox",
        default="1",
        choices=("", "0", "1", "require"),
        help="0: decode in the worker itself",
    )
    add("--decode", default="cpu", choices=("", "cpu", "gpu"), help="gpu: large videos by the GPU, unconfined")
    add("--limits", default="", help="limits other than the defaults: 'pixels=33177600 decode_seconds=20'")
    add("--crop", default="", help="edge of the input, in pixels; default: the model's own")
    add("--version", default=own.version, help="version of the archive")
    add("--store", default=str(own.store), help="folder for the archive")
    add("--seed", default=str(own.seed), help="seed of random weights")
    given = parser.parse_args(arguments)
    for option, digits in (("--crop", given.crop), ("--seed", given.seed)):
        # Python reads 1_0 as 10, and digits of other scripts; nobody means those here.
        if digits and not re.fullmatch(r"[0-9]{1,18}", digits):
            parser.error(f"{option} must be a whole number of at most 18 digits, got {digits!r}")
    return Order(
        model=given.model or own.model,
        name=given.name,
        weights=given.weights,
        weights_sha256=given.weights_sha256,
        labels=Path(given.labels) if given.labels else None,
        runtime=given.runtime or own.runtime,
        fallback=given.fallback != "0",
        sandbox="require" if given.sandbox == "require" else given.sandbox != "0",
        decode=given.decode or own.decode,
        limits=given.limits,
        precision=given.precision or own.precision,
        device=given.device or own.device,
        calibration=Path(given.calibration) if given.calibration else None,
        int8_tolerance=given.int8_tolerance,
        crop_pixels=int(given.crop) if given.crop else None,
        version=given.version or own.version,
        store=Path(given.store or own.store),
        seed=int(given.seed or own.seed),
    )


def _show(built: Built, console: Console) -> None:
    """Print what was built, one line per fact."""
    manifest = built.manifest
    spec = manifest.spec
    rows = {
        "archive": f"{built.path} ({built.size_bytes / 1e6:.1f} MB, built in {built.seconds:.0f} s)",
        "endpoint": f"/predictions/{manifest.name} (version {manifest.version})",
        "weights": built.weights_source if manifest.weights == RANDOM else manifest.weights,
        "labels": f"{len(manifest.labels)}: {', '.join(manifest.labels[:3])}, ...",
        "input": f"{spec.num_frames} frames of {spec.window_seconds:.3f} s, {spec.crop} x {spec.crop} pixels",
    }
    for artifact in manifest.artifacts:
        report = artifact.parity
        rows[artifact.runtime] = (
            f"{artifact.precision}, scores within {report['max_abs_score_difference']:.1e} of the eager "
            f"model's, same best label on {report['top1_agreement']:.0%} of {report['clips']} clips"
        )
        if found := artifact.quantisation:
            rows["int8"] = (
                f"calibrated on {found['calibrated_on']}, {len(found['in_floating_point'])} of "
                f"{found['convolutions']} convolutions in floating point, scores differ by "
                f"{report['mean_score_difference']:.3f} in the mean"
            )
            if changed := found["changed_labels"]:
                rows["changed"] = f"the best label of {len(changed)} videos: {', '.join(changed[:5])}"
    for title, text in rows.items():
        console.print(f"{title:<11} {text}", soft_wrap=True, markup=False, highlight=False)
    if built.notice:
        console.print(built.notice, style="yellow", soft_wrap=True, markup=False, highlight=False)
