"""Where in a network each filter's response can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.Mish,
    nn.Sigmoid,
    nn.Tanh,
)


@dataclass(frozen=True)
class Tap:
    """The ``call``-th time (from 0) that ``module`` runs in one forward pass."""

    module: nn.Module
    call: int


def find_taps(module: nn.Module, size: int) -> dict[str, Tap]:
    """For each convolution, in forward order, where its response comes out.

    That is after the batch normalisation and the activation that directly follow it, in whatever
    order, up to and with the first activation; the convolution itself where nothing follows, as
    with activations that are plain functions.

    Args:
        module: ``(1, 3, size, size)`` float in.
        size: Side of the trial input in px.
    """
    names = {m: n for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    taps: dict[str, Tap] = {}
    # Followed by identity; the tensors are kept so that no id is given away twice.
    pending: dict[int, tuple[str, Tensor]] = {}
    calls: Counter[nn.Module] = Counter()

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        tap = Tap(layer, calls[layer])
        calls[layer] += 1
        if isinstance(layer, nn.Conv2d):
            taps.setdefault(names[layer], tap)
            pending[id(output)] = (names[layer], output)
        elif id(inputs[0]) in pending:
            name, _ = pending.pop(id(inputs[0]))
            taps[name] = tap
            if not isinstance(layer, _ACTIVATIONS):
                pending[id(output)] = (name, output)

    watched = [m for m in module.modules() if _is_watched(m)]
    hooks = [layer.register_forward_hook(note) for layer in watched]
    try:
        with torch.inference_mode():
            module(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return taps


@contextmanager
def listening(
    taps: Mapping[str, Tap], receive: Callable[[str, Tensor], None]
) -> Iterator[Callable[[], None]]:
    """While open, each forward pass hands every tap's output ``(N, C, H, W)`` to ``receive``.

    Yields a function to call before each forward pass.
    """
    wanted = {(tap.module, tap.call): name for name, tap in taps.items()}
    calls: Counter[nn.Module] = Counter()

    def note(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        name = wanted.get((layer, calls[layer]))
        calls[layer] += 1
        if name is not None:
            receive(name, output)

    hooks = [m.register_forward_hook(note) for m in {tap.module for tap in taps.values()}]
    try:
        yield calls.clear
    finally:
        for hook in hooks:
            hook.remove()


def _is_watched(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, *_ACTIVATIONS))
