"""Plain chains of convolutions, the only kind of network that the 2021 method knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from finicky.errors import UnsupportedModelError

_PASSIVE = (
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
)


@dataclass(frozen=True)
class Link:
    """One convolution of a chain, and the layers between its ReLU and the next convolution."""

    name: str
    conv: nn.Conv2d
    before_relu: tuple[tuple[str, nn.Module], ...]
    after_relu: tuple[tuple[str, nn.Module], ...]


def links(module: nn.Module) -> list[Link]:
    """Split a network into its convolutions, each with its ReLU and what follows.

    Raises:
        UnsupportedModelError: It is no chain of ungrouped convolutions, each with a ReLU; the
            message names the layer.
    """
    found: list[Link] = []
    parts: list[tuple[str, nn.Module]] = []
    for name, layer in [*_flat(module, ""), ("", None)]:
        if layer is not None and not isinstance(layer, nn.Conv2d):
            parts.append((name, layer))
            continue
        if parts and isinstance(parts[0][1], nn.Conv2d):
            found.append(_link(parts))
        elif parts:
            raise _refusal(parts[0][0], parts[0][1], "comes before the first convolution")
        if layer is not None:
            if layer.groups != 1:
                raise _refusal(name, layer, f"has {layer.groups} groups")
            parts = [(name, layer)]
    if not found:
        raise UnsupportedModelError("--method original needs convolutions, found none")
    return found


def _flat(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            yield from _flat(child, f"{prefix}.{name}" if prefix else name)
    elif isinstance(module, (nn.Conv2d, nn.ReLU, *_PASSIVE)):
        yield prefix, module
    else:
        raise _refusal(prefix or "the network", module, "is no layer of a plain chain")


def _link(parts: list[tuple[str, nn.Module]]) -> Link:
    (name, conv), *rest = parts
    assert isinstance(conv, nn.Conv2d)
    relus = [i for i, (_, layer) in enumerate(rest) if isinstance(layer, nn.ReLU)]
    if len(relus) != 1:
        raise _refusal(name, conv, f"is followed by {len(relus)} ReLUs where one is expected")
    return Link(name, conv, tuple(rest[: relus[0]]), tuple(rest[relus[0] + 1 :]))


def _refusal(name: str, layer: nn.Module, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"--method original cuts plain chains of convolutions only; {name} "
        f"({type(layer).__name__}) {reason}. Use --method finicky"
    )
