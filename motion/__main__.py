"""``python -m motion clips | train | evaluate``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from motion.clips import ORDINARY
from motion.model import WEIGHTS


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m motion", description="The bundled small model.")
    commands = parser.add_subparsers(dest="command", required=True)

    clips = commands.add_parser("clips", help="write generated clips, with each label in turn")
    clips.add_argument("--count", type=int, default=8)
    clips.add_argument("--seed", type=int, default=0)
    clips.add_argument("--out", type=Path, required=True, metavar="DIR")

    train = commands.add_parser("train", help="train the model from nothing")
    train.add_argument("--out", type=Path, default=WEIGHTS, metavar="PATH")
    train.add_argument(
        "--work", type=Path, default=Path("build/motion"), metavar="DIR", help="folder for checkpoints"
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--threads", type=int, default=0, help="threads of torch; 0: all cores")

    train.add_argument("--footage", type=Path, metavar="DIR", help="real videos for some of the backgrounds")

    evaluate = commands.add_parser("evaluate", help="classify new clips; exit code 1 if too few are right")
    evaluate.add_argument("--count", type=int, default=800)
    evaluate.add_argument("--seed", type=int, default=1_000_000)
    evaluate.add_argument("--codec", default="libx264", help="one of FFmpeg's encoders, or any: a mixture")
    evaluate.add_argument("--difficulty", type=float, default=ORDINARY, help="0 to 1; training goes up to 1")
    evaluate.add_argument(
        "--footage", type=Path, metavar="DIR", help="draw over the videos of this folder, with other code"
    )
    evaluate.add_argument("--url", help="http://127.0.0.1:8080/predictions/motion; default: in-process")
    evaluate.add_argument("--weights", type=Path, default=WEIGHTS, metavar="PATH")

    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.command == "clips":
        from motion.clips import write_clips

        for path in write_clips(options.out, options.count, options.seed):
            sys.stdout.write(f"{path}\n")
    elif options.command == "train":
        import torch

        from motion.train import train as run

        if options.threads:
            torch.set_num_threads(options.threads)
        run(options.out, options.work, options.seed, footage=options.footage)
    else:
        return _evaluate(options)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from actionrec_client import ActionClient
    from motion.clips import random_clip
    from motion.evaluate import evaluate, in_process, through
    from motion.footage import footage_clip
    from motion.scene import LABELS

    classify = in_process(options.weights) if not options.url else through(ActionClient(options.url))
    codec = None if options.codec == "any" else options.codec
    clips = (
        footage_clip(seed, options.footage)
        if options.footage
        else random_clip(seed, LABELS[seed % len(LABELS)], codec, difficulty=options.difficulty)
        for seed in range(options.seed, options.seed + options.count)
    )
    result = evaluate(classify, clips)
    width = max(map(len, LABELS))
    for label, share, row in zip(LABELS, result.class_accuracy, result.confusion, strict=True):
        sys.stdout.write(f"{label:>{width}}  {share:6.1%}  {' '.join(f'{n:4d}' for n in row)}\n")
    for seed, label, answer in result.wrong:
        sys.stdout.write(f"seed {seed}: {label}, taken for {answer}\n")
    sys.stdout.write(f"{result.accuracy:.2%} of {result.confusion.sum()} clips right\n")
    return 0 if result.good_enough else 1


if __name__ == "__main__":
    sys.exit(main())
