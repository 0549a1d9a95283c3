"""A real browser for tests: the system's Chromium, driven by Playwright; tests skip where either is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PLACES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser, Playwright's."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install 'featvis[test]')")
    path = next((found for name in PLACES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    with driver.sync_playwright() as play:
        # A container's root has no sandbox.
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
