"""A folder of clips, eight requests at a time, into a table. A clip that fails costs no other clip its answer.

    python examples/batch_folder.py videos/ --output labels.csv

For thousands of files use ``actionrec batch``, which goes on after a stop where it was.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

from actionrec_client import ActionClient, ServerError, Unreachable


def main() -> None:
    """Classify every file, write a row for each, and print how often each label was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="is searched through for .mp4 files")
    parser.add_argument("--output", type=Path, default=Path("labels.csv"), help="CSV that is written")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the server")
    options = parser.parse_args()

    client = ActionClient(options.url)
    found: Counter[str] = Counter()
    failed = 0
    with options.output.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "score", "error"])
        try:
            for path, answer in client.classify_many(
                sorted(options.folder.rglob("*.mp4")), in_flight=8, top_k=1
            ):
                if isinstance(answer, Unreachable):
                    raise answer
                if isinstance(answer, ServerError):
                    failed += 1
                    table.writerow([path, "", "", answer.code])
                else:
                    found[answer.label] += 1
                    table.writerow([path, answer.label, answer.score, ""])
        except ServerError as error:
            sys.exit(f"error: {error}")

    for label, count in found.most_common():
        print(f"{count:5}  {label}")
    print(f"{found.total()} classified, {failed} failed: {options.output}")


if __name__ == "__main__":
    main()
