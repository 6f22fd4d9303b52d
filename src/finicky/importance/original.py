"""The 2021 method to the letter: truncated IoU, layer by layer, from the input on.

One network a keep ratio: each layer's input channels are first cut to what the layer before kept,
then every filter's ReLU output on every photo is truncated to a byte and compared bit by bit with
the mask. Ours differs in speed alone and in batch normalisation, whose statistics survive here.

What ratios share: the first layer sees the same photos whatever the ratio; and ratios that round
to the same counts in the first layers, as many do where there are 64 channels, have the same scores
in those and in the next. Each photo runs through a layer once: what stays is taken from the
responses that were scored, as long as those fit into `KEPT_BYTES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.errors import ShapeError, UsageError
from finicky.importance.chain import Link, links
from finicky.importance.resize import resize_linear_u8
from finicky.importance.truncated import truncated_iou
from finicky.progress import Progress, silent
from finicky.spool import Spool

INPUT_SIZE = 224
_BATCH = 4
# Of one layer's responses on all photos; beyond it they are computed again for what stays.
KEPT_BYTES = 512 * 2**20
_Source = Callable[[], Iterator[Tensor]]


@dataclass(frozen=True)
class OriginalChoice:
    """What the method kept at one ratio.

    Attributes:
        kept: Kept output channels by convolution, in forward order, each list ascending.
        scores: Mean IoU by convolution, ``(C,)`` float32 in [0, 1].
    """

    keep_ratio: float
    kept: dict[str, list[int]]
    scores: dict[str, np.ndarray]


class OriginalScorer:
    """Scores a chain of convolutions as the 2021 scripts did.

    Args:
        module: A plain chain; anything else is an `UnsupportedModelError` with the reason.
        photos: ``(N, H, W, 3)`` uint8 RGB; the method's H and W are 224.
        masks: N arrays ``(h, w)`` bool, of any size: true where the target was marked.
    """

    def __init__(self, module: nn.Module, photos: np.ndarray, masks: Sequence[np.ndarray]) -> None:
        if len(photos) != len(masks) or not len(photos):
            raise ShapeError(f"one mask a photo expected, got {len(photos)} and {len(masks)}")
        self._links = links(module)
        self._photos = photos
        self._masks = [np.where(mask, np.uint8(255), np.uint8(0)) for mask in masks]
        self._small: dict[tuple[int, int], Tensor] = {}
        # Scores by how many channels the layers before keep; which ones follows from that.
        self._known: dict[tuple[int, ...], np.ndarray] = {}
        self._first: Tensor | None = None

    @torch.inference_mode()
    def choose(self, keep_ratio: float, *, progress: Progress = silent) -> OriginalChoice:
        """Score and cut layer by layer; returns what stays. The module is not changed."""
        counts = _counts(self._links, keep_ratio)
        choice = OriginalChoice(keep_ratio, {}, {})
        previous: Tensor | None = None
        spool: Spool | None = None
        for number, (link, count) in enumerate(zip(self._links, counts, strict=True)):
            progress("score layers", number, len(self._links))
            source = self._inputs if spool is None else partial(_maps, spool.rows())
            score, responses = self._scores(link, previous, source, counts[:number])
            keep = best_channels(score, count)
            choice.kept[link.name], choice.scores[link.name] = keep.tolist(), score
            following = Spool()
            if number + 1 < len(self._links):
                for x in _following(link, source, responses, previous, keep):
                    # Channels last, as the networks have it: no copy when it is read again.
                    following.append(x.permute(0, 2, 3, 1).contiguous().numpy())
            if spool is not None:
                spool.close()
            spool, previous = following, keep
        if spool is not None:
            spool.close()
        progress("score layers", len(self._links), len(self._links))
        return choice

    def _inputs(self) -> Iterator[Tensor]:
        # BGR, values 0 to 255, no mean subtracted: what the scripts fed while pruning, although
        # their features were made with the mean subtracted.
        for rgb in _batches(self._photos):
            yield rgb.flip(-1).permute(0, 3, 1, 2).float()

    def _scores(
        self, link: Link, previous: Tensor | None, source: _Source, before: tuple[int, ...]
    ) -> tuple[np.ndarray, Tensor | None]:
        """Scores of all channels, and what the next layer would see of them, if that fits."""
        if before in self._known:
            return self._known[before], None if before else self._first
        rows: list[np.ndarray] = []
        responses: Tensor | None = None
        conv = _cut_conv(link.conv, previous, None)
        for x in source():
            maps = F.relu(_run(link.before_relu, conv(x), None))
            masks = self._masks_at(maps.shape[2], maps.shape[3])
            rows.extend(truncated_iou(maps, masks[len(rows) : len(rows) + len(maps)]).numpy())
            y = _run(link.after_relu, maps, None)
            if len(rows) == len(maps):
                responses = self._room(y)
            if responses is not None:
                responses[len(rows) - len(y) : len(rows)] = y
        score: np.ndarray = np.stack(rows).mean(axis=0, dtype=np.float32)
        self._known[before] = score
        if not before:
            self._first = responses
        return score, responses

    def _room(self, first: Tensor) -> Tensor | None:
        """Where responses like these go, one a photo; ``None`` where that is too much."""
        shape = (len(self._photos), *first.shape[1:])
        if math.prod(shape) * first.element_size() > KEPT_BYTES:
            return None
        return torch.empty(shape).contiguous(memory_format=torch.channels_last)

    def _masks_at(self, height: int, width: int) -> Tensor:
        """``(N, height, width)`` uint8, grey at the rims."""
        if (height, width) not in self._small:
            small = [resize_linear_u8(m, width=width, height=height) for m in self._masks]
            self._small[height, width] = torch.from_numpy(np.stack(small))
        return self._small[height, width]


def original_counts(module: nn.Module, keep_ratio: float, *, least: int = 0) -> dict[str, int]:
    """How many channels of each convolution the original keeps at a ratio in (0, 1].

    Args:
        module: A plain chain.
        keep_ratio: Share of channels, in (0, 1].
        least: Where the original would leave none, this many; 0: that is refused.

    Raises:
        UsageError: A convolution would be left without channels.
        UnsupportedModelError: It is no plain chain.
    """
    found = links(module)
    counts = _counts(found, keep_ratio, least)
    return {link.name: count for link, count in zip(found, counts, strict=True)}


def _counts(found: Sequence[Link], keep_ratio: float, least: int = 0) -> tuple[int, ...]:
    if not 0 < keep_ratio <= 1:
        raise UsageError(f"keep ratio must be in (0, 1], got {keep_ratio}")
    counts = []
    for link in found:
        channels = link.conv.out_channels
        count = channels if keep_ratio == 1 else round((channels - 1) * keep_ratio)
        counts.append(max(count, least))
        if counts[-1] == 0:
            raise UsageError(
                f"keep ratio {keep_ratio} leaves none of the {channels} channels of "
                f"{link.name}: use at least {math.ceil(501 / max(channels - 1, 1)) / 1000:g}"
            )
    return tuple(counts)


def best_channels(scores: np.ndarray, count: int) -> Tensor:
    """The ``count`` best channels in ascending order; ties go to the higher channel number."""
    order = np.argsort(scores, kind="stable")
    return torch.from_numpy(np.sort(order[len(order) - count :]))


def _following(
    link: Link, source: _Source, responses: Tensor | None, previous: Tensor | None, keep: Tensor
) -> Iterator[Tensor]:
    """What the next layer sees, batch by batch: of responses at hand, or computed again."""
    if responses is None:
        yield from (_kept_output(link, x, previous, keep) for x in source())
    else:
        yield from (rows[:, keep] for rows in responses.split(_BATCH))


def _kept_output(link: Link, x: Tensor, previous: Tensor | None, keep: Tensor) -> Tensor:
    """What the next convolution sees of the channels that stay."""
    y = F.relu(_run(link.before_relu, _cut_conv(link.conv, previous, keep)(x), keep))
    return _run(link.after_relu, y, keep)


def _cut_conv(conv: nn.Conv2d, inputs: Tensor | None, outputs: Tensor | None) -> nn.Conv2d:
    """A shallow copy with fewer inputs or outputs; the weights that stay are the same numbers."""
    cut = copy(conv)
    cut._parameters = dict(conv._parameters)
    weight, bias = conv.weight, conv.bias
    if inputs is not None:
        weight = weight[:, inputs]
    if outputs is not None:
        weight, bias = weight[outputs], None if bias is None else bias[outputs]
    cut.weight = nn.Parameter(weight, requires_grad=False)
    cut.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return cut


def _run(layers: Sequence[tuple[str, nn.Module]], x: Tensor, keep: Tensor | None) -> Tensor:
    for _, layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and keep is not None:
            numbers = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
            mean, var, weight, bias = (None if v is None else v[keep] for v in numbers)
            x = F.batch_norm(x, mean, var, weight, bias, eps=layer.eps)
        else:
            x = layer(x)
    return x


def _maps(rows: np.ndarray) -> Iterator[Tensor]:
    """Batches of ``(N, H, W, C)`` as ``(n, C, H, W)``."""
    yield from (batch.permute(0, 3, 1, 2) for batch in _batches(rows))


def _batches(rows: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(rows), _BATCH):
        yield torch.from_numpy(np.array(rows[start : start + _BATCH]))
