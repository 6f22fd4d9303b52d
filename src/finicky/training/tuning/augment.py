"""What a surface looks like from elsewhere, in other light and through another lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from finicky.errors import UsageError
from finicky.masks import IGNORE


@dataclass(frozen=True)
class SurfaceAugmentation:
    """How far photos are changed; every tile draws anew.

    A surface has no top, so tiles are mirrored and turned by quarters. Hues stay: defects are told
    by shape and darkness, and a made-up colour is one that no surface has.

    Attributes:
        scale: Zoom by a factor in ``[1 / scale, scale]``; what lies outside is mirrored.
        contrast: Grey values are spread around the tile's mean by ``1 ± contrast``.
        brightness: Grey values are shifted by at most so many of 255.
        blur: Share of tiles that are blurred as by slight defocus, in [0, 1].
        noise: Standard deviation of added noise at most, of 255.
    """

    scale: float = 1.25
    contrast: float = 0.25
    brightness: float = 25.0
    blur: float = 0.2
    noise: float = 6.0

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise UsageError(f"scale must be at least 1, got {self.scale:g}")
        if not 0 <= self.contrast < 1:
            raise UsageError(f"contrast must be in [0, 1), got {self.contrast:g}")
        if not 0 <= self.blur <= 1:
            raise UsageError(f"blur must be in [0, 1], got {self.blur:g}")
        if min(self.brightness, self.noise) < 0:
            raise UsageError("brightness and noise must be at least 0")

    def __call__(
        self, photos: Tensor, masks: Tensor | None, random: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Change a batch; its masks move along.

        Args:
            photos: ``(N, S, S, 3)`` uint8 RGB.
            masks: ``(N, S, S)`` uint8: 1 target, 0 anything else, 255 not to be counted.
            random: Draws; on the CPU, so that every device sees the same tiles.

        Returns:
            ``(N, S, S, 3)`` float in [0, 255] and masks of the same kind.
        """
        x = photos.permute(0, 3, 1, 2).float()
        marks = None if masks is None else _as_planes(masks)
        x, marks = _turned(x, marks, random)
        if self.scale > 1:
            x, marks = self._zoomed(x, marks, random)
        x = self._lit(x, random)
        return x.permute(0, 2, 3, 1), None if marks is None else _as_masks(marks)

    def _zoomed(
        self, x: Tensor, marks: Tensor | None, random: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Every tile by its own factor, around a point of its own when there is room."""
        spread = math.log(self.scale)
        factor = torch.exp(spread * _uniform(len(x), random))  # below 1: nearer
        shift = (1 - factor).clamp(min=0)[:, None] * _uniform(len(x), random, 2)
        theta = torch.zeros(len(x), 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = factor, factor, shift
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        if marks is not None:
            marks = F.grid_sample(marks, grid, padding_mode="reflection", align_corners=False)
        return x, marks

    def _lit(self, x: Tensor, random: torch.Generator) -> Tensor:
        gain = 1 + self.contrast * _uniform(len(x), random)[:, None, None, None]
        shift = self.brightness * _uniform(len(x), random)[:, None, None, None]
        centre = x.mean((1, 2, 3), keepdim=True)
        x = (x - centre) * gain + centre + shift
        soft = torch.rand(len(x), generator=random) < self.blur
        if soft.any():
            around = F.pad(x[soft], (1, 1, 1, 1), mode="replicate")
            x[soft] = F.avg_pool2d(F.avg_pool2d(around, (3, 1), 1), (1, 3), 1)
        level = self.noise * torch.rand(len(x), 1, 1, 1, generator=random)
        x = x + level * torch.randn(len(x), 1, *x.shape[2:], generator=random)
        return x.clamp(0, 255)


def _turned(
    x: Tensor, marks: Tensor | None, random: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Mirrored and turned by quarters, tile by tile."""
    for number, kind in enumerate(torch.randint(8, (len(x),), generator=random).tolist()):
        for planes in (x,) if marks is None else (x, marks):
            plane = planes[number].flip(2) if kind >= 4 else planes[number]
            planes[number] = torch.rot90(plane, kind % 4, (1, 2)).clone()
    return x, marks


def _as_planes(masks: Tensor) -> Tensor:
    """Two planes that may be interpolated: target, and not to be counted."""
    return torch.stack([masks == 1, masks == IGNORE], 1).float()


def _as_masks(planes: Tensor) -> Tensor:
    target, ignored = planes.unbind(1)
    masks = (target > 0.5).to(torch.uint8)
    masks[ignored > 0.01] = IGNORE
    return masks


def _uniform(count: int, random: torch.Generator, *more: int) -> Tensor:
    """Numbers in [-1, 1]."""
    return 2 * torch.rand(count, *more, generator=random) - 1
