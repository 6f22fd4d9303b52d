"""Tiles to feature vectors, in batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from finicky.backbones import Backbone
from finicky.errors import UsageError, nearest_names
from finicky.progress import Progress, silent
from finicky.spool import Spool, forget

FeatureKind = Literal["mean", "max", "mean+max", "flat"]
FEATURE_KINDS: tuple[FeatureKind, ...] = get_args(FeatureKind)
BATCH = 32


class Features(nn.Module):
    """The last map of a backbone, ``(N, C, h, w)``, as one vector a photo.

    ``mean`` and ``max``: C numbers, pooled over the map; ``mean+max``: 2C; ``flat``: every pixel
    of every channel, C·h·w, as the original did (channel by channel, row by row).
    """

    def __init__(self, kind: FeatureKind) -> None:
        super().__init__()
        if kind not in FEATURE_KINDS:
            raise UsageError(f"no features named {kind!r}. {nearest_names(kind, FEATURE_KINDS)}")
        self.kind = kind

    def forward(self, maps: Tensor) -> Tensor:
        if self.kind == "flat":
            return maps.flatten(1)
        parts = []
        if "mean" in self.kind:
            parts.append(maps.mean((2, 3)))
        if "max" in self.kind:
            parts.append(maps.amax((2, 3)))
        return torch.cat(parts, 1)


def extract(
    backbone: Backbone,
    tiles: np.ndarray,
    spool: Spool,
    *,
    kind: FeatureKind,
    batch: int = BATCH,
    progress: Progress = silent,
) -> np.ndarray:
    """Features of every tile, ``(N, D)`` float32.

    Args:
        backbone: Unpruned or pruned.
        tiles: ``(N, S, S, 3)`` uint8 RGB; may be mapped from disk, only a batch is read at a time.
        spool: Takes the rows, on disk where they are many; the result is valid as long as it is.
        kind: How a map becomes a vector.
        batch: Tiles in one forward pass.
    """
    head = Features(kind)
    with torch.inference_mode():
        for start in range(0, len(tiles), batch):
            photos = torch.from_numpy(np.array(tiles[start : start + batch]))
            spool.append(head(backbone.module(backbone.preprocessing(photos))).numpy())
            forget(tiles)
            progress("features", min(start + batch, len(tiles)), len(tiles))
    return spool.rows()


def read_tiles(
    paths: Iterable, spool: Spool, *, size: int, progress: Progress = silent
) -> np.ndarray:
    """Decode tile files once for all candidates: ``(N, size, size, 3)`` uint8.

    Files of another size are resized.
    """
    from finicky.images import read_image, resize_image

    paths = list(paths)
    for number, path in enumerate(paths, start=1):
        tile = read_image(path)
        if tile.shape[:2] != (size, size):
            tile = resize_image(tile, size, size)
        spool.append(tile[None])
        progress("read tiles", number, len(paths))
    return spool.rows()
