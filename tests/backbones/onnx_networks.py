"""Small networks as ONNX files, for the tests of the ONNX reader."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Small(nn.Module):
    """Shortcut, depthwise filters, squeeze-excitation, batch norm, concatenation; 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.one = nn.Conv2d(16, 16, 3, 1, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.squeeze = nn.Conv2d(16, 8, 1)
        self.excite = nn.Conv2d(8, 16, 1)
        self.left = nn.Conv2d(16, 12, 3, 1, 1)
        self.right = nn.Conv2d(16, 12, 1)
        self.classes = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = F.relu6(x + self.depthwise(self.one(x).relu()))
        x = x * self.excite(self.squeeze(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()
        x = F.max_pool2d(x, 2)
        x = F.hardswish(torch.cat([self.left(x), self.right(x)], 1))
        return self.classes(F.adaptive_avg_pool2d(x, 1).flatten(1)).softmax(1)


def small() -> nn.Module:
    """`Small` with weights of seed 0 and statistics that are not 0 and 1."""
    torch.manual_seed(0)
    network = Small().eval()
    nn.init.uniform_(network.norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    nn.init.normal_(network.norm.running_mean)  # type: ignore[arg-type]
    return network


def export(
    network: nn.Module, path: Path, *, opset: int, dynamo: bool, fixed: bool = False, side: int = 64
) -> Path:
    """Write a network with one of torch's two exporters, for one photo or for any batch."""
    x = torch.rand(1 if fixed else 2, 3, side, side)
    with warnings.catch_warnings(), Path(os.devnull).open("w") as sink:
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        with contextlib.redirect_stdout(sink):
            if dynamo:
                shapes = None if fixed else ({0: torch.export.Dim("batch")},)
                torch.onnx.export(
                    network, (x,), str(path), dynamo=True, opset_version=opset,
                    external_data=False, verbose=False, dynamic_shapes=shapes,
                )  # fmt: skip
            else:
                torch.onnx.export(
                    network, (x,), str(path), dynamo=False, opset_version=opset,
                    input_names=["x"], dynamic_axes=None if fixed else {"x": {0: "batch"}},
                )  # fmt: skip
        logging.disable(logging.NOTSET)
    return path
