"""What is learnt from: tiles with labels and masks, a teacher's answers, in augmented batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from finicky.backbones import Backbone
from finicky.masks import IGNORE
from finicky.training.tuning.settings import FinetuneSettings


@dataclass(frozen=True)
class MarkedTiles:
    """Tiles with what is known of them.

    Attributes:
        tiles: ``(N, S, S, 3)`` uint8 RGB.
        labels: ``(N,)`` 0 or 1, 1 = target.
        masks: ``(N, S, S)`` uint8: 1 target, 0 anything else, 255 not to be counted; or ``None``.
    """

    tiles: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class Soft:
    """What the unpruned network and its head answer: a teacher (Hinton et al. 2015,
    arXiv:1503.02531).

    Attributes:
        labelled: ``(N,)`` probabilities for the training tiles.
        tiles: ``(M, S, S, 3)`` uint8 further tiles that nobody labelled; M may be 0.
        answers: ``(M,)`` probabilities for these.
    """

    labelled: np.ndarray
    tiles: np.ndarray
    answers: np.ndarray


@dataclass(frozen=True)
class Batch:
    x: Tensor
    wanted: Tensor
    weights: Tensor
    masks: Tensor | None
    mask_weight: float


class Batches:
    """Augmented batches; of unlabelled tiles as many as of labelled ones."""

    def __init__(
        self,
        backbone: Backbone,
        train: MarkedTiles,
        soft: Soft | None,
        settings: FinetuneSettings,
        device: torch.device,
    ) -> None:
        self._prepare, self._train, self._soft = backbone.preprocessing, train, soft
        self._settings, self._device = settings, device
        labels = train.labels.astype(np.float64)
        share = settings.soft_weight if soft is not None else 0.0
        self._wanted = labels if soft is None else (1 - share) * labels + share * soft.labelled
        self._weights = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
        rounds = max(len(labels), settings.least_steps * settings.batch)
        self.steps = min(-(-rounds // settings.batch), settings.most_steps)

    def epoch(self, number: int) -> Iterator[Batch]:
        order = np.random.default_rng([self._settings.seed, number])
        random = torch.Generator().manual_seed(self._settings.seed * 1_000_003 + number)
        size, count = self._settings.batch, len(self._train.labels)
        wanted = self.steps * size
        rows = np.concatenate([order.permutation(count) for _ in range(-(-wanted // count))])
        more = 0 if self._soft is None else len(self._soft.answers)
        others = order.integers(0, more, wanted) if more else None
        for start in range(0, wanted, size):
            part = slice(start, start + size)
            yield self._batch(rows[part], None if others is None else others[part], random)

    def _batch(self, rows: np.ndarray, others: np.ndarray | None, random: torch.Generator) -> Batch:
        train = self._train
        tiles, wanted, weights = train.tiles[rows], self._wanted[rows], self._weights[rows]
        masks = None if train.masks is None else train.masks[rows]
        if others is not None and self._soft is not None:
            tiles = np.concatenate([tiles, self._soft.tiles[others]])
            wanted = np.concatenate([wanted, self._soft.answers[others]])
            weights = np.concatenate([weights, np.ones(len(others))])
            if masks is not None:
                unknown = np.full((len(others), *masks.shape[1:]), IGNORE, np.uint8)
                masks = np.concatenate([masks, unknown])
        photos = torch.from_numpy(np.array(tiles))
        marks = None if masks is None else torch.from_numpy(np.array(masks))
        changed, marks = self._settings.augmentation(photos, marks, random)
        return Batch(
            self._prepare(changed).to(self._device),
            torch.from_numpy(wanted).float().to(self._device),
            torch.from_numpy(weights).float().to(self._device),
            None if marks is None else marks.to(self._device),
            self._settings.mask_weight,
        )
