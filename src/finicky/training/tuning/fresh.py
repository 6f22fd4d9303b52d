"""The same shape with fresh weights: the honest rival of a pruned network."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

# Convolutions of a network without normalisation answer with this spread at first.
_SPREAD = 1.0


def fresh_weights(module: nn.Module, sample: Tensor, *, seed: int) -> nn.Module:
    """A copy of a network that has learnt nothing, made so that it can learn.

    Convolutions are drawn after He et al. 2015, arXiv:1502.01852. A network without batch
    normalisation is then scaled layer by layer until each convolution answers ``sample`` with mean
    0 and variance 1 (Mishkin and Matas 2016, "All you need is a good init", arXiv:1511.06422):
    thin deep networks often do not start at all otherwise.

    Args:
        module: Pruned or not; it is not changed.
        sample: ``(N, 3, S, S)`` preprocessed tiles.
        seed: Of the weights.
    """
    new = deepcopy(module)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for layer in new.modules():
            _reset(layer)
        if not recalibrate(new, [sample]):
            _scale(new, sample)
    return new


def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> bool:
    """Measure the statistics of batch normalisation anew; false where a network has none.

    A cut network answers otherwise than the one whose statistics it carries.

    Args:
        module: In eval mode; changed.
        batches: ``(N, 3, S, S)`` preprocessed tiles, N at least 2; no labels are needed.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return False
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what follows
        norm.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return True


def _reset(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif callable(reset := getattr(layer, "reset_parameters", None)):
        reset()


def _scale(module: nn.Module, sample: Tensor) -> None:
    """One pass: each convolution is scaled before what follows sees its answer."""

    def settle(layer: nn.Module, _: object, answer: Tensor) -> Tensor:
        assert isinstance(layer, nn.Conv2d)
        mean = torch.zeros(()) if layer.bias is None else answer.mean((0, 2, 3))[:, None, None]
        spread = float((answer - mean).std())
        if not spread > 0 or layer in done:
            return answer
        done.add(layer)
        layer.weight.mul_(_SPREAD / spread)
        if layer.bias is not None:
            layer.bias.sub_(mean.flatten()).mul_(_SPREAD / spread)
        return (answer - mean) * (_SPREAD / spread)

    done: set[nn.Module] = set()
    hooks = [
        layer.register_forward_hook(settle)
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    try:
        module(sample)
    finally:
        for hook in hooks:
            hook.remove()
