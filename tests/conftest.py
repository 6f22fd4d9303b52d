"""What several test files need."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import SHARED

CHROMIUM = next(
    (p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None
)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_arrives() -> None:
    """A suite started in the background ignores Ctrl-C, and so would every program it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One Chromium for all tests: Playwright starts once a process. Skips where one is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium in /usr/bin: apt-get install chromium")
    with warnings.catch_warnings(), playwright.sync_playwright() as started:
        warnings.simplefilter("ignore")
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def real_data() -> Path:
    """The folder of real photographs beside the checkout; skips where it is missing."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real photographs: {folder} is missing")
    return folder


@pytest.fixture
def reference() -> Path:
    """The folder with the run of the 2021 method; skips where it is missing."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference run of the 2021 method: {folder} is missing")
    return folder


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """No test may leave torch with another number of threads: it changes the last bits."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if torch is not None:
        assert torch.get_num_threads() == before, "the number of torch's threads was changed"
