"""Find more like this: the clips of a folder that are most like one, by what the model sees in them.

python examples/more_like_this.py goal.mp4 clips/
python examples/more_like_this.py goal.mp4 clips/ --count 3

For a folder of thousands, that is asked more than once: ``actionrec embed`` and ``actionrec similar``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from actionrec_client import ActionClient, ServerError, Unreachable
from actionrec_client.files.find import find


def main() -> None:
    """Turn each clip into a vector, and sort by the angle to that of the first one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="what to look for")
    parser.add_argument("folder", help="where to look")
    parser.add_argument("--count", type=int, default=10, help="how many clips to name")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the server")
    options = parser.parse_args()

    found = []
    try:
        client = ActionClient(options.url)
        wanted = client.embed(options.clip)
        wanted /= np.linalg.norm(wanted)
        for path, answer in client.classify_many(find([options.folder]), top_k=1, embedding="base64"):
            if isinstance(answer, Unreachable):
                raise answer
            if isinstance(answer, ServerError):
                print(f"skipped {path}: {answer.code}", file=sys.stderr)
            elif (vector := answer.embedding) is not None:
                found.append((float(vector @ wanted / np.linalg.norm(vector)), str(path), answer.label))
    except (ServerError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")

    for cosine, name, label in sorted(found, reverse=True)[: options.count]:
        print(f"{cosine:6.3f}  {name}  ({label})")


if __name__ == "__main__":
    main()
