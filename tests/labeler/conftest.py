"""A running labeler, and a page on it in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labeler_bench import Bench
from labeler_helpers import Server, make_project


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
