"""The layers and tensor functions that a network from a file may be made of; nothing else."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.backbones.alexnet import SameConv2d, same_padding
from finicky.errors import UnsupportedModelError


class Reshape(nn.Module):
    """Another shape of the same numbers.

    ``shape``: numbers, at most one −1, or ``"k"`` for the input's own k-th size, so that other
    batches and photo sizes fit.
    """

    def __init__(self, shape: list[int | str]) -> None:
        super().__init__()
        self.shape = [int(n) if isinstance(n, str) else n for n in shape]
        self.copied = [isinstance(n, str) for n in shape]

    def forward(self, x: Tensor) -> Tensor:
        sizes = [
            x.shape[n] if copied else n for n, copied in zip(self.shape, self.copied, strict=True)
        ]
        return x.reshape(sizes)


class SamePool2d(nn.Module):
    """Pooling padded as TensorFlow's ``SAME``; padding counts for nothing."""

    def __init__(self, kind: str, kernel: list[int], stride: list[int]) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride = kind, kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = same_padding(x.shape[2], self.kernel[0], self.stride[0])
        left, right = same_padding(x.shape[3], self.kernel[1], self.stride[1])
        sides = (left, right, top, bottom)
        if self.kind == "max":
            return F.max_pool2d(F.pad(x, sides, value=-3.4e38), self.kernel, self.stride)
        return _mean_of_real(x, sides, self.kernel, self.stride)


class EdgePool2d(nn.Module):
    """Mean pooling over a photo with ``padding`` (left, right, top, bottom) that counts nothing."""

    def __init__(self, kernel: list[int], stride: list[int], padding: list[int]) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return _mean_of_real(x, tuple(self.padding), self.kernel, self.stride)


def _mean_of_real(
    x: Tensor, sides: tuple[int, ...], kernel: list[int], stride: list[int]
) -> Tensor:
    real = F.pad(torch.ones_like(x[:1, :1]), sides)
    share = F.avg_pool2d(real, kernel, stride)
    return F.avg_pool2d(F.pad(x, sides), kernel, stride) / share


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d,
    "AdaptiveMaxPool2d": nn.AdaptiveMaxPool2d,
    "AvgPool2d": nn.AvgPool2d,
    "BatchNorm1d": nn.BatchNorm1d,
    "BatchNorm2d": nn.BatchNorm2d,
    "Conv2d": nn.Conv2d,
    "ConvTranspose2d": nn.ConvTranspose2d,
    "EdgePool2d": EdgePool2d,
    "GroupNorm": nn.GroupNorm,
    "Identity": nn.Identity,
    "InstanceNorm2d": nn.InstanceNorm2d,
    "LayerNorm": nn.LayerNorm,
    "Linear": nn.Linear,
    "LocalResponseNorm": nn.LocalResponseNorm,
    "MaxPool2d": nn.MaxPool2d,
    "PReLU": nn.PReLU,
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "Reshape": Reshape,
    "SameConv2d": SameConv2d,
    "SamePool2d": SamePool2d,
}

# PyTorch's own operators, by name and overload. None writes anywhere or reads anything but tensors.
FUNCTIONS = frozenset(
    f"aten.{name}"
    for name in [
        "abs.default",
        "add.Scalar",
        "add.Tensor",
        "addmm.default",
        "amax.default",
        "amin.default",
        "avg_pool2d.default",
        "adaptive_avg_pool2d.default",
        "adaptive_max_pool2d.default",
        "argmax.default",
        "bmm.default",
        "cat.default",
        "ceil.default",
        "celu.default",
        "channel_shuffle.default",
        "chunk.default",
        "clamp.default",
        "clamp.Tensor",
        "clamp_max.default",
        "clamp_min.default",
        "clone.default",
        "constant_pad_nd.default",
        "contiguous.default",
        "detach.default",
        "div.Scalar",
        "div.Tensor",
        "dropout.default",
        "elu.default",
        "eq.Scalar",
        "eq.Tensor",
        "erf.default",
        "exp.default",
        "expand.default",
        "flatten.using_ints",
        "flip.default",
        "floor.default",
        "ge.Scalar",
        "gelu.default",
        "glu.default",
        "gt.Scalar",
        "gt.Tensor",
        "hardsigmoid.default",
        "hardswish.default",
        "hardtanh.default",
        "index_select.default",
        "le.Scalar",
        "leaky_relu.default",
        "linalg_vector_norm.default",
        "log.default",
        "log_softmax.int",
        "log_sigmoid.default",
        "logical_and.default",
        "logical_not.default",
        "lt.Scalar",
        "lt.Tensor",
        "matmul.default",
        "max_pool2d.default",
        "maximum.default",
        "mean.default",
        "mean.dim",
        "minimum.default",
        "mish.default",
        "mm.default",
        "movedim.int",
        "mul.Scalar",
        "mul.Tensor",
        "narrow.default",
        "neg.default",
        "pad.default",
        "permute.default",
        "pixel_shuffle.default",
        "pixel_unshuffle.default",
        "pow.Scalar",
        "pow.Tensor_Scalar",
        "pow.Tensor_Tensor",
        "reciprocal.default",
        "relu.default",
        "relu6.default",
        "repeat.default",
        "reshape.default",
        "rsqrt.default",
        "rsub.Scalar",
        "select.int",
        "selu.default",
        "sigmoid.default",
        "sign.default",
        "silu.default",
        "slice.Tensor",
        "softmax.int",
        "softplus.default",
        "split.Tensor",
        "split_with_sizes.default",
        "sqrt.default",
        "square.default",
        "squeeze.default",
        "squeeze.dim",
        "squeeze.dims",
        "stack.default",
        "std.correction",
        "sub.Scalar",
        "sub.Tensor",
        "sum.default",
        "sum.dim_IntList",
        "t.default",
        "tanh.default",
        "to.dtype",
        "transpose.int",
        "unbind.int",
        "unflatten.int",
        "unsqueeze.default",
        "upsample_bilinear2d.vec",
        "upsample_nearest2d.vec",
        "var.correction",
        "view.default",
        "where.self",
    ]
) | {"python.getitem"}


def function(name: str) -> Callable[..., Any]:
    """The operator of a name.

    Raises:
        UnsupportedModelError: It is not one of `FUNCTIONS`.
    """
    if name not in FUNCTIONS:
        raise UnsupportedModelError(f"{name[:80]} is no operator that Finicky knows")
    if name == "python.getitem":
        return operator.getitem
    _, operation, overload = name.split(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, operation), overload)
    return found
