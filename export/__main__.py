"""``python -m export`` and ``python -m export learn``."""

import sys

if sys.argv[1:2] == ["learn"]:
    from .learn.cli import main

    sys.exit(main(sys.argv[2:]))

from .cli import main as build

sys.exit(build())
