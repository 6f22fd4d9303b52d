"""Overlaps that must be taken photo by photo, while its responses are at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from finicky.importance.resize import resize_linear_u8
from finicky.importance.truncated import truncated_iou as truncated_iou

# Network Dissection takes the top 0.005 for concepts as large as a sofa. See docs/explanation.
TOP_SHARE = 0.02


def photo_quantile_iou(
    maps: Tensor, masks: Tensor, shrunk: Tensor, valid: Tensor | None
) -> np.ndarray:
    """IoU of the strongest `TOP_SHARE` of each photo's responses with that photo's mask.

    Args:
        maps: ``(N, C, h, w)`` responses.
        masks: ``(N, H, W)`` the masks at full size; not used here.
        shrunk: ``(N, h, w)`` masks by area, at the size of ``maps``, ignored pixels out.
        valid: ``(N, h, w)`` how far each pixel counts, or ``None``.

    Returns:
        ``(N, C)``; NaN for photos without a marked pixel.
    """
    del masks  # at full size
    flat = maps.float().flatten(2)
    counts = torch.ones_like(shrunk) if valid is None else valid
    usable = torch.where(counts.flatten(1)[:, None] > 0, flat, torch.zeros(()))
    wanted = max(1, round(TOP_SHARE * flat.shape[2]))
    least = usable.topk(wanted, dim=2).values[..., -1:]
    strong = ((usable >= least) & (usable > 0)).float() * counts.flatten(1)[:, None]
    mask = shrunk.flatten(1)[:, None]
    # Of a pixel that counts by half and is marked by a quarter, a quarter is common.
    both = torch.minimum(strong, mask.expand_as(strong)).sum(2)
    union = strong.sum(2) + mask.sum(2) - both
    iou = both / union.clamp(min=1e-12)
    return torch.where(mask.sum(2) > 0, iou, torch.nan).double().numpy()


def photo_truncated_iou(
    maps: Tensor, masks: Tensor, shrunk: Tensor, valid: Tensor | None
) -> np.ndarray:
    """The 2021 method's overlap, `truncated_iou`, on the unpruned network's responses."""
    del shrunk, valid  # the method knows neither areas nor pixels to ignore
    height, width = maps.shape[2:]
    full = np.where(masks.numpy() > 0, np.uint8(255), np.uint8(0))
    small = np.stack([resize_linear_u8(m, width=width, height=height) for m in full])
    return truncated_iou(F.relu(maps), torch.from_numpy(small)).double().numpy()


PhotoScore = Callable[[Tensor, Tensor, Tensor, Tensor | None], np.ndarray]
PHOTO_SCORES: Mapping[str, PhotoScore] = {
    "quantile-iou": photo_quantile_iou,
    "truncated-iou": photo_truncated_iou,
}
