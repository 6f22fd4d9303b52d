"""How fast each layer of a network may learn, whatever its numbers' size."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

# Of the auxiliary head, whose inputs are standardised; as of a pixel head (`PixelSettings`).
MASK_RATE = 0.01
WARM_UP = 0.1


def rates_by_layer(
    network: nn.Module,
    head: nn.Linear,
    marks: nn.Module | None,
    sample: Tensor,
    *,
    rate: float,
) -> list[dict[str, Any]]:
    """Parameter groups for Adam, one a tensor.

    Adam moves every number by about its learning rate a step, however large the number is. Networks
    for photos in 0 to 255 and for standardised ones, cut and fitted ones, hold numbers of very
    different sizes, so that no one rate suits them. Here a weight moves by ``rate`` of its tensor's
    root mean square, a bias by ``rate`` of what its layer answers (after You et al. 2019,
    arXiv:1904.00962, which scales by layer too, but anew at every step).

    Args:
        network: Ends in ``head``.
        head: Of standardised features.
        marks: Auxiliary head, with a rate of its own.
        sample: What the network is shown to see how strongly layers answer.
        rate: Share in (0, 1).
    """
    answers = _answers(network, sample)
    groups = []
    for name, layer in network.named_modules():
        for title, tensor in layer.named_parameters(recurse=False):
            size = _rms(tensor)
            if layer is head:
                size = max(size, 1 / math.sqrt(head.in_features))
            elif title.endswith("bias"):
                size = max(size, answers.get(name, 0.0))
            groups.append({"params": [tensor], "lr": rate * max(size, 1e-8)})
    if marks is not None:
        free = [tensor for tensor in marks.parameters() if tensor.requires_grad]
        groups.append({"params": free, "lr": MASK_RATE})
    return groups


def share_of_peak(step: int, steps: int) -> float:
    """Up in a line for a tenth of the steps, then down in a half cosine to nearly 0."""
    rise = max(1.0, WARM_UP * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    along = min(1.0, (step - rise) / max(1.0, steps - rise))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * along))


@torch.no_grad()
def _answers(network: nn.Module, sample: Tensor) -> dict[str, float]:
    """Root mean square of what each layer with parameters of its own answers."""
    found: dict[str, float] = {}
    names = {m: n for n, m in network.named_modules() if list(m.parameters(recurse=False))}

    def note(layer: nn.Module, _: object, answer: Any) -> None:
        if isinstance(answer, Tensor):
            found[names[layer]] = _rms(answer)

    hooks = [layer.register_forward_hook(note) for layer in names]
    try:
        network(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().float().pow(2).mean().sqrt())
