"""Masks as teachers: while a network trains, 1×1 heads on its inner maps must show the marks.

A tile's label is one bit; its mask says where. Each tap (the last convolution of each resolution)
gets a 1×1 convolution that predicts how much of each cell is target, and all of them together
predict it on the finest grid: side outputs and their fusion, after Xie and Tu 2015,
"Holistically-Nested Edge Detection", arXiv:1504.06375; unlike theirs, targets are the shares of
coarse cells, because the network is wanted for tiles. What the fusion has learnt is a `PixelHead`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.importance.responses import Tap, find_taps, listening
from finicky.masks import IGNORE
from finicky.training.pixel_head import PHOTO, PixelHead, stage_taps

# Cells finer than this share of the tile's side cost much and teach little about tiles.
FINEST = 2
# A crack fills few cells; its cells count more, but not without limit: some masks hold a speck.
MOST_WEIGHT = 10.0


class MaskLoss(nn.Module):
    """An auxiliary loss on a network's inner maps.

    Args:
        module: The network that is trained.
        size: Side of a tile in px.
        sample: ``(N, 3, size, size)`` preprocessed tiles that show how strong responses are.
        share: Of target in all cells that are counted, in (0, 1).

    Raises:
        UnsupportedModelError: The network has no maps to listen to.
    """

    def __init__(self, module: nn.Module, *, size: int, sample: Tensor, share: float) -> None:
        super().__init__()
        self.size = size
        self.sides = _chosen(stage_taps(module, size), size)
        found = find_taps(module, size)
        self.taps: dict[str, Tap] = {name: found[name] for name in self.sides}
        self.names = tuple(self.sides)
        self.cells = max(self.sides.values())
        self.weight = min(MOST_WEIGHT, max(1.0, (1 - share) / max(share, 1e-6)))
        self._maps: dict[str, Tensor] = {}
        self.side = nn.ModuleList()
        self.means, self.scales = nn.ParameterList(), nn.ParameterList()
        for mean, scale in self._look(module, sample):
            self.means.append(nn.Parameter(mean, requires_grad=False))
            self.scales.append(nn.Parameter(scale, requires_grad=False))
            conv = nn.Conv2d(len(mean), 1, 1)
            nn.init.zeros_(conv.weight)
            nn.init.constant_(conv.bias, float(np.log(share / (1 - share))))  # type: ignore[arg-type]
            self.side.append(conv)
        self.fuse = nn.Parameter(torch.full((len(self.names),), 1 / len(self.names)))
        self.offset = nn.Parameter(torch.zeros(()))

    def run(self, module: nn.Module, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The network's last map, and the logits ``(N, h, w)`` of each tap and of the fusion."""
        caught: dict[str, Tensor] = {}

        def receive(name: str, response: Tensor) -> None:
            # A copy: some networks add their shortcut in place, which a gradient must not see.
            caught[name] = response.clone()

        with listening(self.taps, receive) as start:
            start()
            last = module(inputs)
        sides = []
        for number, name in enumerate(self.names):
            mean, scale = (p[number][:, None, None] for p in (self.means, self.scales))
            sides.append(self.side[number]((caught[name] - mean) / scale))
        grid = (self.cells, self.cells)
        wide = [
            side if side.shape[-1] == self.cells else F.interpolate(side, grid, mode="bilinear")
            for side in sides
        ]
        fused = sum(a * w for a, w in zip(self.fuse, wide, strict=True)) + self.offset
        return last, [*(s[:, 0] for s in sides), fused[:, 0]]

    def loss(self, logits: list[Tensor], masks: Tensor) -> Tensor:
        """Mean logistic loss over taps and fusion, against the share of each cell that is target.

        Args:
            logits: As `run` gave them.
            masks: ``(N, size, size)`` uint8: 1 target, 0 anything else, 255 not to be counted.
        """
        planes = torch.stack([masks == 1, masks == IGNORE], 1).float()
        total = logits[0].new_zeros(())
        for found in logits:
            share, ignored = F.adaptive_avg_pool2d(planes, (found.shape[1], found.shape[2])).unbind(
                1
            )
            counted = (ignored == 0).float() * (1 + (self.weight - 1) * share)
            each = F.binary_cross_entropy_with_logits(found, share, reduction="none")
            total = total + (each * counted).sum() / counted.sum().clamp(min=1)
        return total / len(logits)

    @torch.no_grad()
    def pixel_head(self) -> PixelHead:
        """The fusion as a pixel head, exactly: z = relu(z) − relu(−z)."""
        weights, bias = [], float(self.offset)
        for number in range(len(self.names)):
            conv, factor = self.side[number], float(self.fuse[number])
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            row = factor * conv.weight[0, :, 0, 0].double() / self.scales[number].double()
            bias += factor * float(conv.bias) - float(row @ self.means[number].double())
            weights.append(torch.stack([row, -row]).float().cpu().numpy())
        return PixelHead(
            taps=self.names,
            weights=tuple(np.ascontiguousarray(w) for w in weights),
            bias=np.array([bias, -bias], np.float32),
            output=np.array([1, -1], np.float32),
            output_bias=0.0,
            size=self.size,
            cells=self.cells,
        )

    def _look(self, module: nn.Module, sample: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Mean and spread of every channel of every tap."""
        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def receive(name: str, response: Tensor) -> None:
            mean, spread = response.mean((0, 2, 3)), response.std((0, 2, 3))
            least = 1e-3 * mean.abs() + 1e-2 * spread.mean() + 1e-6
            seen[name] = mean, torch.maximum(spread, least)

        with listening(self.taps, receive) as start, torch.no_grad():
            start()
            module(sample)
        return [seen[name] for name in self.names]


def _chosen(taps: dict[str, int], size: int) -> dict[str, int]:
    """The last tap of each resolution that is coarse enough; at least the coarsest."""
    sides = {name: side for name, side in taps.items() if name != PHOTO}
    last = {side: name for name, side in sides.items()}
    coarse = [side for side in last if side * FINEST <= size] or [min(last)]
    return {name: side for name, side in sides.items() if side in coarse and last[side] == name}
