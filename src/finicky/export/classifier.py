"""The whole network that leaves: 8-bit tiles in, probabilities of named classes and a map out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from finicky.backbones import Backbone, Preprocessing
from finicky.training import FeatureKind, Features, LogisticHead, PixelHead, PixelMap


class Classifier(nn.Module):
    """Preprocessing, backbone, pooling, head and softmax as one module.

    Takes ``(N, S, S, 3)`` uint8 RGB; gives ``(N, 2)`` float32 probabilities: not target, target.
    With a pixel head it gives a pair: these, and ``(N, h, w)`` float32, the probability that a cell
    of the tile is target, from the same pass through the network.

    Args:
        backbone: Unpruned or pruned.
        kind: How the last map becomes a vector.
        head: Trained on such vectors.
        pixels: Trained on this backbone's responses.
    """

    def __init__(
        self,
        backbone: Backbone,
        kind: FeatureKind,
        head: LogisticHead,
        pixels: PixelHead | None = None,
    ) -> None:
        super().__init__()
        self.prepare = _Prepare(backbone.preprocessing)
        self.backbone = backbone.module
        self.features = Features(kind)
        self.head = nn.Linear(len(head.weight), 2)
        with torch.no_grad():
            weight = torch.from_numpy(head.weight.copy())
            # softmax of (0, z) is (1 − sigmoid(z), sigmoid(z))
            self.head.weight.copy_(torch.stack([torch.zeros_like(weight), weight]))
            self.head.bias.copy_(torch.tensor([0.0, head.bias]))
        self.pixels = PixelMap(pixels, backbone.module) if pixels else None
        self.eval().requires_grad_(False)

    def forward(self, tiles: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        inputs = self.prepare(tiles)
        if self.pixels is None:
            return self._probabilities(self.backbone(inputs))
        last, fine = self.pixels(self.backbone, inputs)
        return self._probabilities(last), fine

    def _probabilities(self, last: Tensor) -> Tensor:
        return self.head(self.features(last)).softmax(1)


class _Prepare(nn.Module):
    """`Preprocessing` with plain operators that every runtime has."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.flip = preprocessing.channel_order == "bgr"
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def forward(self, tiles: Tensor) -> Tensor:
        x = tiles.float().permute(0, 3, 1, 2)
        if self.flip:
            x = x[:, [2, 1, 0]]
        return (x - self.mean) / self.std
