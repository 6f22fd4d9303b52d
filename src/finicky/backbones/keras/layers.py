"""Layers that Keras has and PyTorch has not, or not quite: as modules, channels first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.backbones.alexnet import same_padding


def _sides(x: Tensor, kernel: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
    """Left, right, top, bottom, as `F.pad` wants them."""
    top, bottom = same_padding(x.shape[2], kernel[0], strides[0])
    left, right = same_padding(x.shape[3], kernel[1], strides[1])
    return left, right, top, bottom


class SameMaxPool2d(nn.MaxPool2d):
    """Maximum pooling padded as TensorFlow's ``SAME``.

    Repeated edge pixels stand for the padding: a window that reaches outside also holds the edge,
    so that the maximum is the same as with -infinity, which quantisers cannot take.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        sides = _sides(x, self.kernel_size, self.stride)
        return super().forward(F.pad(x, sides, mode="replicate") if any(sides) else x)


class SameAvgPool2d(nn.Module):
    """Average pooling padded as TensorFlow's ``SAME``, which leaves the padding out of the mean."""

    def __init__(self, kernel_size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        sides = _sides(x, self.kernel_size, self.stride)
        if not any(sides):
            return F.avg_pool2d(x, self.kernel_size, self.stride)
        inside = F.pad(torch.ones_like(x[:1, :1]), sides)
        share = F.avg_pool2d(inside, self.kernel_size, self.stride)
        return F.avg_pool2d(F.pad(x, sides), self.kernel_size, self.stride) / share


class Crop2d(nn.Module):
    """Cut pixels off: top, bottom, left, right."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides = tuple(sides)

    def forward(self, x: Tensor) -> Tensor:
        top, bottom, left, right = self.sides
        return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


class SameSize(nn.Module):
    """What resizes to one size: nothing to do there, and wrong anywhere else."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != self.size:
            raise ValueError(
                f"it resizes {tuple(x.shape[2:])} to {self.size}; only a layer that leaves the "
                "size as it is can be used"
            )
        return x


class Affine(nn.Module):
    """``x · scale + offset``; one number, or one a channel."""

    def __init__(self, scale: float | list[float], offset: float | list[float]) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Tensor) -> Tensor:
        return x * _along(self.scale, x) + _along(self.offset, x)


def _along(value: float | list[float], x: Tensor) -> Tensor | float:
    if not isinstance(value, list):
        return value
    shape = [1, -1] + [1] * (x.ndim - 2)
    return torch.tensor(value, dtype=x.dtype, device=x.device).view(shape)


class Normalize(nn.Module):
    """``(x − mean) / max(√variance, 1e-7)`` with values that were measured on data."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = [1, -1] + [1] * (x.ndim - 2)
        return (x - self.mean.view(shape)) / self.variance.view(shape).sqrt().clamp(min=1e-7)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalMax(nn.Module):
    """The largest value of each channel, ``(N, C, 1, 1)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3), keepdim=True)


class ToMap(nn.Module):
    """``(N, C)`` to ``(N, C, 1, 1)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, None, None]


class Reorder(nn.Module):
    """Columns of ``(N, C)`` in another order."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, torch.tensor(self.order, device=x.device)]


class ClippedReLU(nn.Module):
    """Keras' ``ReLU`` with all of its settings."""

    def __init__(self, slope: float, threshold: float, most: float | None) -> None:
        super().__init__()
        self.slope, self.threshold, self.most = slope, threshold, most

    def forward(self, x: Tensor) -> Tensor:
        low = self.slope * (x - self.threshold)
        y = torch.where(x >= self.threshold, x, low)
        return y if self.most is None else y.clamp(max=self.most)


class HardSigmoid2(nn.Module):
    """Keras 2's ``hard_sigmoid``: slope 0.2, where Keras 3 has 1/6."""

    def forward(self, x: Tensor) -> Tensor:
        return (0.2 * x + 0.5).clamp(0.0, 1.0)


class Exponential(nn.Module):
    """e to the power of x."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class Merge(nn.Module):
    """Several results made one, element by element, as Keras' merging layers do it.

    A vector ``(N, C)`` beside maps is widened to ``(N, C, 1, 1)``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, *parts: Tensor) -> Tensor:
        most = max(p.ndim for p in parts)
        rows = [p[:, :, None, None] if p.ndim == 2 and most == 4 else p for p in parts]
        result = rows[0]
        for other in rows[1:]:
            result = _MERGES[self.kind](result, other)
        return result / len(rows) if self.kind == "average" else result

    def extra_repr(self) -> str:
        return self.kind


_MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "average": torch.add,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
MERGES = frozenset(_MERGES)


class Concatenate(nn.Module):
    """Results side by side along one axis, counted channels first."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, self.axis)
