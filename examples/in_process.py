"""The model inside of your own program: an archive is loaded and clips are classified, with no server.

    make archive MODEL=motion
    python examples/in_process.py model_store/motion.mar clip.mp4 other.mp4

`Service` is what every server of this project calls. It takes the rows of a batch and gives a reply for each:
the same JSON, errors too. Videos are decoded in child processes of their own, so keep the ``__main__`` guard.
"""

import argparse
import json
import sys
import tempfile
import zipfile
from pathlib import Path

from actionrec.service import Row, Service


def main() -> None:
    """Unpack the archive, load it, and classify all clips as one batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="a .mar that `make archive` has built")
    parser.add_argument("clips", type=Path, nargs="+", help="video files")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:0")
    options = parser.parse_args()
    if not options.archive.is_file():
        sys.exit(f"error: there is no archive {options.archive}. Build one: make archive")

    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(options.archive).extractall(folder)
        service = Service.load(Path(folder), options.device, rows=len(options.clips))
        try:
            rows = [Row({"body": clip.read_bytes(), "top_k": 3}) for clip in options.clips]
            for clip, reply in zip(options.clips, service.answer(rows), strict=True):
                body = json.loads(reply.body)
                if reply.status == 200:
                    labels = ", ".join(f"{p['label']} {p['score']:.2f}" for p in body["predictions"])
                    print(f"{clip}: {labels}")
                else:
                    failed += 1
                    print(f"{clip}: {body['error']['code']}: {body['error']['message']}")
        finally:
            service.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
