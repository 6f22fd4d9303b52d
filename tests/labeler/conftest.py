"""Chromium, a running labeler, and a page on it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labeler_bench import Bench
from labeler_helpers import CHROMIUM, Server, make_project


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium; skips where it or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium in /usr/bin: apt-get install chromium")
    with warnings.catch_warnings(), playwright.sync_playwright() as started:
        warnings.simplefilter("ignore")
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    """A labeler of a small project; its folder has a space and an accent."""
    root = tmp_path / "mosty świat"
    make_project(root)
    server = Server(root)
    yield server
    server.kill()


@pytest.fixture
def bench(chromium: Any, served: Server) -> Iterator[Bench]:
    made = Bench(chromium, served)
    yield made
    made.context.close()
    assert made.errors == []
