"""What a test does without a tool that `scripts/setup-tests` installs."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lacks(message: str) -> NoReturn:
    """Skip, or fail where the script could have installed the tool: there a skip would hide that it did not."""
    if os.environ.get("CI") or (os.geteuid() == 0 and shutil.which("apt-get")):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
