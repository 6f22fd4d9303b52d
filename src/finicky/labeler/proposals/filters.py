"""The filters of a backbone that overlap best with what was marked, as features of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finicky.classes import ClassTable, MaskClass
from finicky.data.pairs import Pair
from finicky.errors import FinickyError

FILTERS = 24
# Deeper maps are too coarse to draw a crack with, and take most of the time.
_LAYERS = 10


class BestFilters:
    """A backbone's filters with the highest importance on the labelled photos.

    Args:
        backbone: A loaded `finicky.backbones.Backbone`.
        pairs: The labelled photos with their masks.
        classes: What the masks' numbers mean.
        targets: The classes that count as marked.
    """

    def __init__(
        self,
        backbone: Any,
        pairs: Sequence[Pair],
        classes: ClassTable,
        targets: Sequence[MaskClass],
    ) -> None:
        from finicky.importance import collect, find_taps, scoring_batches
        from finicky.importance.overlap import quantile_iou

        self._backbone = backbone
        found = find_taps(backbone.module, max(64, backbone.min_size))
        taps = dict(list(found.items())[:_LAYERS])
        batches = scoring_batches(
            pairs, classes=classes, targets=targets, preprocessing=backbone.preprocessing
        )
        ranked = [
            (float(value), name, channel)
            for name, statistics in collect(backbone.module, taps, batches).items()
            for channel, value in enumerate(np.nan_to_num(quantile_iou(statistics)))
        ]
        self.chosen = [(n, c) for _, n, c in sorted(ranked, reverse=True)[:FILTERS]]
        self._taps = {name: taps[name] for name in dict.fromkeys(n for n, _ in self.chosen)}

    def features(self, rgb: np.ndarray) -> np.ndarray:
        """Their responses, enlarged to the photo: ``(H, W, 24)`` float32 for ``(H, W, 3)`` uint8.

        A photo smaller than the network takes has responses of 0.
        """
        import torch
        from torch.nn.functional import interpolate

        from finicky.importance import listening

        if min(rgb.shape[:2]) < self._backbone.min_size:
            return np.zeros((*rgb.shape[:2], len(self.chosen)), np.float32)
        wanted: dict[str, list[int]] = {}
        for name, channel in self.chosen:
            wanted.setdefault(name, []).append(channel)
        maps: list[Any] = []

        def receive(name: str, answers: Any) -> None:
            picked = answers[:, wanted[name]].float()
            size = rgb.shape[:2]
            maps.append(interpolate(picked, size=size, mode="bilinear", align_corners=False)[0])

        photo = torch.from_numpy(np.array(rgb))[None]
        with torch.inference_mode(), listening(self._taps, receive) as begin:
            begin()
            self._backbone.module(self._backbone.preprocessing(photo))
            return torch.cat(maps).permute(1, 2, 0).numpy()


def load_quietly(name: str) -> tuple[Any | None, str]:
    """The backbone of that name, or ``None`` and why it cannot be used: labelling goes on without.

    The reasons are a missing torch, missing weights or an unknown name.
    """
    if not name:
        return None, ""
    try:
        from finicky.backbones import load_backbone

        return load_backbone(name), ""
    except (FinickyError, ImportError) as error:
        return None, str(error)
