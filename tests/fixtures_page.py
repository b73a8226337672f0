"""A real browser, and the looks of the page in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.helpers_page import LOOKS, PATIENCE_MS, chromium

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser; each test opens the page as somebody new."""
    with chromium() as found:
        yield found


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> str:
    """Size and scheme."""
    return str(request.param)
