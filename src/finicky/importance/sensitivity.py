"""How far a network's answer is off when one group of channels is cut: what its cut costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from finicky.importance.responses import Tap, find_taps
from finicky.importance.statistics import ScoringBatch
from finicky.progress import Progress, silent
from finicky.pruning import LEVELS, ChannelGroup, plan_from_scores

# So many tiles tell which groups matter; every group needs three passes over them.
MOST_TILES = 32


def measure_losses(
    module: nn.Module,
    groups: Sequence[ChannelGroup],
    scores: Mapping[str, np.ndarray],
    batches: Iterable[ScoringBatch],
    *,
    progress: Progress = silent,
) -> dict[str, list[float]]:
    """By root of a group: how far the last map's means and maxima are off at each of `LEVELS`.

    Channels are made dark behind the activations of the convolutions that make them, which is what
    a cut does to all that follows. Squared error over tiles and features, as a share of the
    features' variance; 0 at full width.

    Args:
        module: Unpruned, in eval mode.
        groups: From `find_groups`.
        scores: By convolution: which channels stay at each level.
        batches: Tiles; the first `MOST_TILES` are looked at.
        progress: Told of each group.
    """
    inputs = _some(batches)
    taps = find_taps(module, inputs.shape[-1])
    losses: dict[str, list[float]] = {}
    with torch.inference_mode():
        full = _features(module, inputs)
        variance = float(full.var(0, correction=0).sum()) or 1.0
        for number, group in enumerate(groups):
            progress("sensitivity", number, len(groups))
            if group.whole:
                continue
            found = []
            for level in LEVELS[:-1]:
                plan = plan_from_scores([group], scores, level, backbone="", criterion="")
                with _dark(taps, group, plan.kept):
                    off = _features(module, inputs) - full
                found.append(float(off.pow(2).mean(0).sum()) / variance)
            losses[group.root] = [*found, 0.0]
    progress("sensitivity", len(groups), len(groups))
    return losses


def _some(batches: Iterable[ScoringBatch]) -> Tensor:
    parts: list[Tensor] = []
    for batch in batches:
        parts.append(batch.inputs)
        if sum(map(len, parts)) >= MOST_TILES:
            break
    return torch.cat(parts)[:MOST_TILES]


def _features(module: nn.Module, inputs: Tensor) -> Tensor:
    maps = module(inputs)
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)


@contextmanager
def _dark(
    taps: Mapping[str, Tap], group: ChannelGroup, kept: Mapping[str, Sequence[int]]
) -> Iterator[None]:
    """While open, the group's convolutions answer zero on all channels that are not kept."""
    lit: dict[tuple[nn.Module, int], Tensor] = {}
    for producer in group.producers:
        shown = torch.zeros(int(producer.channels.max()) + 1)
        shown[list(kept[producer.name])] = 1
        lit[taps[producer.name].module, taps[producer.name].call] = shown
    calls: Counter[nn.Module] = Counter()

    def darken(layer: nn.Module, _: object, output: Tensor) -> Tensor | None:
        shown = lit.get((layer, calls[layer]))
        calls[layer] += 1
        if shown is None or len(shown) != output.shape[1]:
            return None
        return output * shown.view(1, -1, 1, 1)

    hooks = [layer.register_forward_hook(darken) for layer in {layer for layer, _ in lit}]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
