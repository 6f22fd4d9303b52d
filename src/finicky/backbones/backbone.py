"""What a backbone is: a module that turns photos into feature maps, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from finicky.errors import UsageError


@dataclass(frozen=True)
class Preprocessing:
    """How 8-bit RGB becomes the network's input: ``(x − mean) / std`` a channel, x in 0 to 255.

    ``mean`` and ``std`` are in the order of ``channel_order``.
    """

    channel_order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, photos: Tensor) -> Tensor:
        """``(N, H, W, 3)`` uint8 RGB to ``(N, 3, H, W)`` float32, channels last in memory."""
        x = photos.permute(0, 3, 1, 2).float()
        if self.channel_order == "bgr":
            x = x.flip(1)
        mean = torch.tensor(self.mean, device=x.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, 3, 1, 1)
        # Channels last is about twice as fast as contiguous on CPUs with AVX-512.
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return {"channel_order": self.channel_order, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(value["channel_order"], tuple(value["mean"]), tuple(value["std"]))


# torchvision's ImageNet statistics, in units of 0 to 255.
IMAGENET_RGB = Preprocessing("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# Caffe's: BGR, mean subtracted, no scaling; what Keras calls mode "caffe".
CAFFE_BGR = Preprocessing("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Provenance:
    """Where weights came from: a sentence, a licence, and the file's SHA-256 if there is a file."""

    source: str
    license: str
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return {"source": self.source, "license": self.license, "sha256": self.sha256}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(value["source"], value["license"], value["sha256"])


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier.

    Attributes:
        name: The architecture's name, enough to build the same module with fresh weights.
        module: ``(N, 3, H, W)`` float in, ``(N, C, h, w)`` feature map out; in eval mode, frozen.
        preprocessing: What the weights expect.
        provenance: Where the weights came from.
        min_size: The smallest H and W that leave at least one pixel in the last map, in px.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    provenance: Provenance
    min_size: int

    def with_module(self, module: nn.Module) -> Backbone:
        """The same backbone around another (pruned) module, frozen and in eval mode."""
        return replace(self, module=freeze(module))

    def check_size(self, size: int) -> None:
        """Refuse tiles that would shrink to nothing."""
        if size < self.min_size:
            raise UsageError(
                f"tile size for {self.name} must be at least {self.min_size} px, got {size}"
            )


def freeze(module: nn.Module) -> nn.Module:
    """Eval mode, no gradients, channels-last weights; changes and returns ``module``."""
    module.eval().requires_grad_(False)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def convolutions(module: nn.Module, size: int = 64) -> dict[str, nn.Conv2d]:
    """The 2-D convolutions of a module by name, in the order in which they run.

    Convolutions that a forward pass never reaches are left out.

    Args:
        module: Takes ``(1, 3, size, size)`` float.
        size: Side of the trial input in px.
    """
    names = {m: n for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    order: dict[str, nn.Conv2d] = {}

    def note(conv: nn.Module, *_: object) -> None:
        order.setdefault(names[conv], conv)  # type: ignore[arg-type, index]

    hooks = [conv.register_forward_hook(note) for conv in names]
    try:
        with torch.inference_mode():
            module(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return order
