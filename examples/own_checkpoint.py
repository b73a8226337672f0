"""Your own weights: a fine-tuned checkpoint and its labels become an archive, which then classifies a clip.

    python examples/own_checkpoint.py --model slowfast_r50 --weights my.pyth --labels labels.txt clip.mp4

``make archive WEIGHTS= LABELS=`` builds the same archive, and ``make serve`` serves it. The checkpoint is a
state dict of pytorchvideo's model, as training scripts save it. `labels.txt` has one label
a line, in the order of the model's outputs. It needs a checkout of this project, whose ``export`` it calls.
"""

import argparse
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from actionrec.service import Row, Service

PROJECT = Path(__file__).parent.parent


def main() -> None:
    """Build the archive, unpack it beside itself, and classify the clip with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="a video file")
    parser.add_argument("--weights", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--labels", type=Path, required=True, help="text file, one label a line")
    parser.add_argument("--model", default="slowfast_r50", help="the network that was fine-tuned")
    parser.add_argument("--name", default="mine", help="of the archive, and of its address when it is served")
    parser.add_argument("--store", type=Path, default=PROJECT / "model_store", help="folder for the archive")
    options = parser.parse_args()

    command = [sys.executable, "-m", "export", "--runtime", "torchscript", "--model", options.model]
    for name in ("weights", "labels", "store"):
        command += [f"--{name}", str(getattr(options, name).resolve())]
    if subprocess.run([*command, "--name", options.name], cwd=PROJECT).returncode:
        sys.exit("error: the archive was not built; what it says is above")

    unpacked = options.store / f"{options.name}-unpacked"
    zipfile.ZipFile(options.store / f"{options.name}.mar").extractall(unpacked)
    service = Service.load(unpacked)
    try:
        (reply,) = service.answer([Row({"body": options.clip.read_bytes()})])
    finally:
        service.close()
    body = json.loads(reply.body)
    if "error" in body:
        sys.exit(f"error: {body['error']['message']}")
    for prediction in body["predictions"]:
        print(f"{prediction['score']:6.1%}  {prediction['label']}")
    print(f"To serve it: make serve MODEL={options.name}")


if __name__ == "__main__":
    main()
