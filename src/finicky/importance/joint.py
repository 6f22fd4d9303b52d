"""How the channels of a layer vary together, on marked and on unmarked pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class JointMoments:
    """Sums over pixels of one convolution's C channels; memory does not grow with the photos.

    Attributes:
        weight: ``(2,)`` how many pixels are unmarked and marked; a pixel that the mask covers by a
            quarter counts by a quarter as marked.
        sums: ``(2, C)`` of responses.
        products: ``(2, C, C)`` of products of two channels' responses at a pixel.
        squares: Of the shares by which the mask covers pixels.
    """

    weight: np.ndarray
    sums: np.ndarray
    products: np.ndarray
    squares: float = 0.0

    @classmethod
    def empty(cls, channels: int) -> JointMoments:
        """Of a layer that has answered nothing yet."""
        return cls(np.zeros(2), np.zeros((2, channels)), np.zeros((2, channels, channels)))

    def add(self, maps: Tensor, masks: Tensor, valid: Tensor | None) -> None:
        """Of ``(N, C, h, w)`` responses; ``masks`` ``(N, h, w)`` already hold no ignored pixel."""
        rows = maps.float().permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
        inside = masks.float().reshape(-1)
        counted = torch.ones_like(inside) if valid is None else valid.float().reshape(-1)
        marked = inside.nonzero().squeeze(1)  # mostly few
        self.squares += float((inside[marked].double() ** 2).sum())
        self._note(1, rows[marked], inside[marked])
        self._note(0, rows, counted - inside, whole=valid is None and not len(marked))

    def _note(self, side: int, rows: Tensor, weight: Tensor, *, whole: bool = False) -> None:
        weighted = rows if whole else rows * weight[:, None]
        self.weight[side] += float(weight.double().sum())
        self.sums[side] += weighted.sum(0).double().numpy()
        self.products[side] += (weighted.T @ rows).double().numpy()

    @property
    def tells_apart(self) -> bool:
        """Whether both marked and unmarked pixels were seen."""
        return bool((self.weight > 0).all())

    def balanced(self) -> np.ndarray:
        """``(C, C)`` covariance where marked and unmarked pixels count by half each.

        So that a crack of a few pixels weighs as much as the surface around it.
        """
        means = self.sums / self.weight[:, None]
        second = (self.products / self.weight[:, None, None]).mean(0)
        centre = means.mean(0)
        return second - np.outer(centre, centre)

    def mask_correlation(self) -> np.ndarray:
        """``(C,)`` size of the correlation with the masks over all pixels, in [0, 1].

        0 for a channel that never varies.
        """
        pixels = self.weight.sum()
        mean = self.sums.sum(0) / pixels
        square = np.diagonal(self.products.sum(0)) / pixels
        variance = np.maximum(square - mean**2, 0)
        common = np.abs(self.sums[1] / pixels - mean * self.weight[1] / pixels)
        varies = variance > 1e-12 * np.maximum(square, 1e-30)
        spread = np.sqrt(max(self.squares / pixels - (self.weight[1] / pixels) ** 2, 1e-30))
        return np.divide(common, np.sqrt(variance) * spread, out=np.zeros_like(mean), where=varies)
