"""What a backbone is: a module that turns photos into feature maps, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from finicky.backbones.blueprint import Blueprint
from finicky.errors import UsageError, nearest_names


@dataclass(frozen=True)
class Preprocessing:
    """How 8-bit RGB becomes the network's input: ``(x − mean) / std`` a channel, x in 0 to 255.

    ``mean`` and ``std`` are in the order of ``channel_order``. ``origin`` says who knew: the file,
    the network's name, the user, or nobody; it is for people, and neither compared nor stored.
    """

    channel_order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    origin: str = field(default="", compare=False, repr=False)

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
    def from_json(cls, value: dict[str, Any], *, origin: str = "") -> Self:
        """The inverse of `to_json`."""
        return cls(value["channel_order"], tuple(value["mean"]), tuple(value["std"]), origin)


# torchvision's ImageNet statistics, in units of 0 to 255.
IMAGENET_RGB = Preprocessing("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# Caffe's: BGR, mean subtracted, no scaling; what Keras calls mode "caffe".
CAFFE_BGR = Preprocessing("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))

# What --preprocessing takes: for networks whose file does not say what they expect.
PREPROCESSINGS: dict[str, Preprocessing] = {
    "imagenet": IMAGENET_RGB,
    "caffe": CAFFE_BGR,
    "unit": Preprocessing("rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "signed": Preprocessing("rgb", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "raw": Preprocessing("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def find_preprocessing(name: str) -> Preprocessing:
    """One of `PREPROCESSINGS`; an unknown name is a `UsageError` that lists the nearest."""
    if name not in PREPROCESSINGS:
        raise UsageError(f"no preprocessing named {name!r}. {nearest_names(name, PREPROCESSINGS)}")
    return replace(PREPROCESSINGS[name], origin=f"{name}, as --preprocessing says")


_TRACE_SIZE = 64


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
    """A network's features, and beside them the classifier that it came with.

    Attributes:
        name: What a person called it: an architecture, or a file.
        module: ``(N, 3, H, W)`` float in, ``(N, C, h, w)`` feature map out; in eval mode, frozen.
        preprocessing: What the weights expect.
        provenance: Where the weights came from.
        min_size: The smallest H and W that leave at least one pixel in the last map, in px.
        blueprint: How to build the *unpruned* features and head again; ``None`` for a module of
            your own, which `finicky.pruning.restore` then wants to be given.
        head: ``(N, C, h, w)`` feature map in, ``(N, classes)`` out; ``None`` if there is none. Its
            inputs follow the features when those are cut, its outputs are never cut.
        head_size: The only H and W that the head takes, in px; ``None`` if it takes any.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    provenance: Provenance
    min_size: int
    blueprint: Blueprint | None = None
    head: nn.Module | None = None
    head_size: int | None = None

    @property
    def whole(self) -> nn.Module:
        """Features, then head: ``(N, 3, H, W)`` in, ``(N, classes)`` out; shares their layers."""
        return self.module if self.head is None else Whole(self.module, self.head)

    @property
    def trace_size(self) -> int:
        """Side in px of a trial photo to trace the network on: any that it takes would do."""
        return max(_TRACE_SIZE, self.min_size)

    def with_module(self, module: nn.Module, head: nn.Module | None = None) -> Backbone:
        """The same backbone around another (pruned) module and head, frozen and in eval mode.

        The old head does not fit other features: without a new one there is none.
        """
        head = None if head is None else freeze(head)
        return replace(self, module=freeze(module), head=head)

    def check_size(self, size: int) -> None:
        """Refuse tiles that would shrink to nothing."""
        if size < self.min_size:
            raise UsageError(
                f"tile size for {self.name} must be at least {self.min_size} px, got {size}"
            )


class Whole(nn.Module):
    """Features and head as one network."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.train(features.training)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


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
