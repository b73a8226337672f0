"""``python -m tests.conformance UNPACKED``: write the table of replies anew, for somebody to review.

UNPACKED is a folder with the files of an archive of the model `motion`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from actionrec.pipeline import Classifier
from actionrec.service import Service

from tests.conformance.asking import row_of
from tests.conformance.cases import CASES
from tests.conformance.replies import Answered, reviewed, write

if __name__ == "__main__":
    service = Service(Classifier.load(Path(sys.argv[1]), open_clips=4, sandbox=True))
    replies = {}
    for case in CASES:
        (reply,) = service.answer([row_of(case)])
        replies[case.name] = reviewed(Answered(reply.status, reply.body))
    service.close()
    write(replies)
