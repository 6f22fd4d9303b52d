"""What each channel answers to whole tiles: the evidence of labels, without a mask."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor


@dataclass
class PooledTiles:
    """Mean and maximum of every channel's response on labelled tiles.

    Grows with the number of tiles (34 kB each for VGG16), not of photos: whoever supplies the tiles
    limits them (see `TileOptions`).
    """

    _labels: list[int] = field(default_factory=list)
    _groups: list[str] = field(default_factory=list)
    _means: dict[str, list[np.ndarray]] = field(default_factory=dict)
    _peaks: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def note(self, labels: tuple[int, ...], groups: tuple[str, ...]) -> None:
        """The tiles of the next batch: 1 = shows the target, and the photographs they came from."""
        self._labels.extend(labels)
        self._groups.extend(groups)

    def add(self, name: str, maps: Tensor) -> None:
        """A convolution's ``(N, C, H, W)`` response to that batch."""
        maps = maps.float()
        self._means.setdefault(name, []).append(maps.mean((2, 3)).numpy())
        self._peaks.setdefault(name, []).append(maps.amax((2, 3)).numpy())

    @property
    def labels(self) -> np.ndarray:
        """``(N,)`` int64, 1 = shows the target."""
        return np.array(self._labels, dtype=np.int64)

    @property
    def groups(self) -> np.ndarray:
        """``(N,)`` str: the photograph that each tile came from."""
        return np.array(self._groups)

    @property
    def layers(self) -> tuple[str, ...]:
        """The convolutions that were listened to."""
        return tuple(self._means)

    def means(self, name: str) -> np.ndarray:
        """``(N, C)`` float32, mean response on each tile."""
        return np.concatenate(self._means[name])

    def peaks(self, name: str) -> np.ndarray:
        """``(N, C)`` float32, strongest response on each tile."""
        return np.concatenate(self._peaks[name])
