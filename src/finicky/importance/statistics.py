"""One pass over the photos, and what it must remember of each channel to rank it any way we like.

Instead of responses, histograms and moments are kept: how often each strength occurred, how much of
that lay inside the mask, and how both vary together. Every threshold, quantile, rank and
correlation criterion can be read off them afterwards, memory does not grow with the number of
photos, and no criterion needs a pass of its own. What costs more and few ask for (overlaps photo by
photo) is gathered on demand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.errors import ShapeError
from finicky.importance.by_photo import PHOTO_SCORES
from finicky.importance.joint import JointMoments
from finicky.importance.pooled import PooledTiles
from finicky.importance.responses import Tap, listening
from finicky.progress import Progress, silent

# A response's bin is its exponent and the first 4 bits of its mantissa: 16 bins an octave (4 %
# wide), from 2**-12 to 2**12. Bin 0 takes everything below, zero and negative responses included;
# the last one everything above.
_STEPS = 4
_LOWEST, _HIGHEST = -12, 12
BINS = ((_HIGHEST - _LOWEST) << _STEPS) + 1


@dataclass(frozen=True)
class ScoringBatch:
    """Photos (or parts of them) with their masks, as a criterion sees them.

    Attributes:
        inputs: ``(N, 3, H, W)`` float, preprocessed.
        masks: ``(N, H, W)`` float in [0, 1], share of each pixel that is target.
        valid: ``(N, H, W)`` float, 0 where a pixel is to be ignored; ``None``: all count.
        labels: N labels, 1 = shows the target, 0 = does not, where the parts are tiles of a
            classification set; their pooled responses are kept (see `PooledTiles`).
        groups: For each tile, the photograph that it came from.
    """

    inputs: Tensor
    masks: Tensor
    valid: Tensor | None = None
    labels: tuple[int, ...] | None = None
    groups: tuple[str, ...] | None = None


@dataclass
class Moments:
    """Sums over pixels, each weighted by how far it counts: ``a`` a channel's response, ``m`` mask.

    ``pixels`` Σ1, ``a`` and ``aa`` ``(C,)`` Σa and Σa², ``am`` ``(C,)`` Σa·m, ``m`` Σm, ``mm`` Σm².
    """

    pixels: float = 0.0
    a: np.ndarray | float = 0.0
    aa: np.ndarray | float = 0.0
    am: np.ndarray | float = 0.0
    m: float = 0.0
    mm: float = 0.0

    def add(self, maps: Tensor, masks: Tensor, valid: Tensor | None) -> None:
        """Of ``(N, C, H, W)`` responses; ``masks`` ``(N, H, W)`` already hold no ignored pixel."""
        flat = maps.float().flatten(2)
        mask = masks.flatten(1)
        weight = torch.ones_like(mask) if valid is None else valid.flatten(1)
        share = torch.where(weight > 0, mask / weight.clamp(min=1e-12), torch.zeros(()))
        self.pixels += float(weight.double().sum())
        self.m += float(mask.double().sum())
        self.mm += float((mask * share).double().sum())
        counted = flat if valid is None else flat * weight[:, None]
        self.a = self.a + counted.sum(2).double().sum(0).numpy()
        self.aa = self.aa + (counted * flat).sum(2).double().sum(0).numpy()
        self.am = self.am + torch.einsum("ncp,np->nc", flat, mask).double().sum(0).numpy()


@dataclass
class ChannelStatistics:
    """What was seen of one convolution's C channels.

    Attributes:
        total: ``(C, BINS)`` float64, pixels of each strength.
        inside: ``(C, BINS)`` float64, the share of them that the masks cover.
        moments: Sums over all pixels, for correlations.
        by_photo: ``(C,)`` sums over photos of what was asked for photo by photo, by kind.
        photos: ``(C,)`` or one number a kind: over how many photos that was summed.
    """

    total: np.ndarray
    inside: np.ndarray
    moments: Moments = field(default_factory=lambda: Moments())
    by_photo: dict[str, np.ndarray] = field(default_factory=dict)
    photos: dict[str, int] = field(default_factory=dict)

    @property
    def mask_pixels(self) -> np.ndarray:
        """``(C,)`` how many pixels the masks cover, at this convolution's resolution."""
        return self.inside.sum(1)

    @property
    def pixels(self) -> np.ndarray:
        """``(C,)`` how many pixels were seen."""
        return self.total.sum(1)


def collect(
    module: nn.Module,
    taps: Mapping[str, Tap],
    batches: Iterable[ScoringBatch],
    *,
    by_photo: Collection[str] = (),
    pooled: PooledTiles | None = None,
    joint: dict[str, JointMoments] | None = None,
    statistics: bool = True,
    batch_count: int = 0,
    progress: Progress = silent,
) -> dict[str, ChannelStatistics]:
    """Run every batch once and gather the statistics of every tapped convolution.

    A mask is shrunk to each map's size by area, so that a pixel of a deep map that a crack crosses
    counts by the share that the crack covers. (Network Dissection enlarges the maps instead, which
    costs up to 1000 times the work and tells the same order.)

    Args:
        module: The unpruned network, in eval mode.
        taps: From `find_taps`.
        batches: In any number and size.
        by_photo: Kinds of `PHOTO_SCORES` to gather photo by photo.
        pooled: Gets the pooled responses of the batches that have labels.
        joint: Gets how the channels of each convolution vary together.
        statistics: Whether histograms and moments are kept.
        batch_count: Only for ``progress``.
    """
    found: dict[str, ChannelStatistics] = {}
    shrunk: dict[tuple[int, int], tuple[Tensor, Tensor | None]] = {}
    current: list[ScoringBatch] = []

    def receive(name: str, maps: Tensor) -> None:
        if pooled is not None and current[0].labels is not None:
            pooled.add(name, maps)
        if not statistics and joint is None:
            return
        key = (maps.shape[2], maps.shape[3])
        if key not in shrunk:
            shrunk[key] = _shrink(current[0], key)
        if joint is not None:
            if name not in joint:
                joint[name] = JointMoments.empty(maps.shape[1])
            joint[name].add(maps, *shrunk[key])
        if not statistics:
            return
        if name not in found:
            shape = (maps.shape[1], BINS)
            found[name] = ChannelStatistics(np.zeros(shape), np.zeros(shape))
        _add(found[name], maps, *shrunk[key])
        found[name].moments.add(maps, *shrunk[key])
        for kind in by_photo:
            _add_photo_scores(found[name], kind, maps, current[0].masks, *shrunk[key])

    with torch.inference_mode(), listening(taps, receive) as begin:
        for number, batch in enumerate(batches):
            if batch.masks.shape != (len(batch.inputs), *batch.inputs.shape[2:]):
                raise ShapeError(
                    f"masks {tuple(batch.masks.shape)} do not fit {tuple(batch.inputs.shape)}"
                )
            progress("score filters", number, max(batch_count, number))
            begin()
            shrunk.clear()
            current[:] = [batch]
            if pooled is not None and batch.labels is not None:
                pooled.note(batch.labels, batch.groups or ("",) * len(batch.labels))
            module(batch.inputs)
            progress("score filters", number + 1, max(batch_count, number + 1))
    return {name: found[name] for name in taps if name in found}


def bin_of(responses: Tensor) -> Tensor:
    """The histogram bin of each response, int32; ``responses`` is float32 of any shape."""
    bits = responses.contiguous().view(torch.int32) >> (23 - _STEPS)
    return (bits - ((127 + _LOWEST) << _STEPS) + 1).clamp_(0, BINS - 1)


def _add(statistics: ChannelStatistics, maps: Tensor, masks: Tensor, valid: Tensor | None) -> None:
    channels = maps.shape[1]
    offsets = (torch.arange(channels, dtype=torch.int32) * BINS)[:, None]
    cells = channels * BINS
    for number in range(len(maps)):  # photo by photo: the bins of a batch would be large
        bins = bin_of(maps[number].float().flatten(1)) + offsets
        mask = masks[number].flatten()
        inside = mask.nonzero().squeeze(1)  # mostly few pixels: weigh only these
        weights = mask[inside].expand(channels, -1).reshape(-1)
        counted = torch.bincount(bins[:, inside].reshape(-1), weights=weights, minlength=cells)
        everywhere = None if valid is None else valid[number].flatten().expand(channels, -1)
        total = torch.bincount(
            bins.reshape(-1),
            weights=None if everywhere is None else everywhere.reshape(-1),
            minlength=cells,
        )
        statistics.inside += counted.view(channels, BINS).numpy()
        statistics.total += total.view(channels, BINS).numpy()


def _add_photo_scores(
    statistics: ChannelStatistics,
    kind: str,
    maps: Tensor,
    masks: Tensor,
    shrunk: Tensor,
    valid: Tensor | None,
) -> None:
    rows = PHOTO_SCORES[kind](maps, masks, shrunk, valid)
    rows = rows[~np.isnan(rows).any(axis=1)]
    statistics.by_photo[kind] = statistics.by_photo.get(kind, 0) + rows.sum(0)
    statistics.photos[kind] = statistics.photos.get(kind, 0) + len(rows)


def _shrink(batch: ScoringBatch, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    def by_area(maps: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(maps[:, None], size)[:, 0]

    if batch.valid is None:
        return by_area(batch.masks), None
    return by_area(batch.masks * batch.valid), by_area(batch.valid)
