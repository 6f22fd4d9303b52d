"""A small network that learns which pixels are marked while the person goes on working.

It needs torch; without it the forests of `finicky.labeler.proposals.learner` propose.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.labeler.proposals.features import REACH, levelled
from finicky.labeler.proposals.lessons import Extra, Lesson, go_on, in_parts, parts

FIRST_STEPS, MORE_STEPS = 300, 80

_WIDTHS = (12, 24, 48, 48)
_CROP, _BATCH = 128, 6
_CENTRED = 0.6  # share of crops around a marked pixel, which are rare
_RATE, _LATER_RATE, _DECAY = 3e-3, 2e-3, 1e-3
_SPREAD = 0.5  # brings the levelled brightness to about the scale of the weights


@contextmanager
def _half_of_the_cores() -> Iterator[None]:
    """Leave the other half to the page, which goes on showing photos meanwhile.

    Set back afterwards: the number of threads changes the last bits of every later result.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class PixelNetwork:
    """A U-Net (Ronneberger et al. 2015) of 0.1 million weights over the levelled brightness.

    Args:
        classes: Numbers of the classes that it tells apart, besides everything else.
        extra: More features for a part of a photo, ``(H, W, F)``, and how many they are.
        seed: Of the weights and the sampling.
    """

    def __init__(
        self, classes: Sequence[int], *, extra: tuple[Extra, int] | None = None, seed: int = 0
    ) -> None:
        self.classes = tuple(classes)
        self.steps = 0
        self._extra, self._seed = extra, seed
        self._scale: tuple[np.ndarray, np.ndarray] | None = None
        torch.manual_seed(seed)
        self._net = _Net(1 + (extra[1] if extra else 0), 1 + len(self.classes))

    @property
    def has_extra(self) -> bool:
        """Whether it looks at more than brightness."""
        return self._extra is not None

    def taught(
        self, lessons: Sequence[Lesson], *, steps: int, check: Callable[[], None] = go_on
    ) -> PixelNetwork:
        """A copy that has looked at the lessons ``steps`` times more, starting from these weights.

        ``check`` is called again and again and stops the work by raising.
        """
        pupil = copy.copy(self)
        pupil._net = copy.deepcopy(self._net).train()
        rng = np.random.default_rng((self._seed, self.steps))
        school = [self._exercise(part) for lesson in lessons for part in parts(lesson)]
        rate = _RATE if self.steps == 0 else _LATER_RATE
        optimizer = torch.optim.AdamW(pupil._net.parameters(), lr=rate, weight_decay=_DECAY)
        with _half_of_the_cores():
            for step in range(steps):
                check()
                warm, cool = min(1, (step + 1) / 20), (1 + math.cos(math.pi * step / steps)) / 2
                for group in optimizer.param_groups:
                    group["lr"] = rate * warm * cool
                crops = [school[rng.integers(len(school))].crop(rng) for _ in range(_BATCH)]
                images, labels = (torch.stack(several) for several in zip(*crops, strict=True))
                optimizer.zero_grad()
                _loss(pupil._net(images), labels).backward()
                optimizer.step()
        pupil._net.eval()
        pupil.steps = self.steps + steps
        return pupil

    def probability(self, rgb: np.ndarray) -> np.ndarray:
        """For each class and pixel the probability that it is marked: ``(K, H, W)`` float32."""
        return in_parts(rgb, self._answer, len(self.classes))

    def _answer(self, rgb: np.ndarray) -> np.ndarray:
        image = self._input(rgb)[None]
        height, width = rgb.shape[:2]
        down, right = -height % _Net.STRIDE, -width % _Net.STRIDE
        image = F.pad(image, (0, right, 0, down), mode="replicate")
        with torch.inference_mode():
            views = [image, image.flip(3), image.flip(2), image.flip((2, 3))]
            answers = [self._net(view).softmax(1) for view in views]
            turned = [answers[0], answers[1].flip(3), answers[2].flip(2), answers[3].flip((2, 3))]
            answer = torch.stack(turned).mean(0)[0, 1:, :height, :width]
        return np.asarray(answer.numpy())

    def _input(self, rgb: np.ndarray) -> Tensor:
        maps = levelled(rgb)[None] * _SPREAD
        if self._extra is not None:
            more = self._extra[0](rgb).transpose(2, 0, 1)
            if self._scale is None:  # that of the first part it ever sees
                mean, spread = more.mean((1, 2), keepdims=True), more.std((1, 2), keepdims=True)
                self._scale = mean, spread + 1e-6
            maps = np.concatenate([maps, (more - self._scale[0]) / self._scale[1]])
        return torch.from_numpy(np.ascontiguousarray(maps, np.float32))

    def _exercise(self, part: Lesson) -> _Exercise:
        labels = np.zeros(part.labels.shape, np.int64)
        for order, number in enumerate(self.classes, start=1):
            labels[part.labels == number] = order
        labels[~part.known] = _UNKNOWN
        image = self._input(part.rgb)
        height, width = part.labels.shape
        down, right = max(0, _CROP - height), max(0, _CROP - width)
        image = F.pad(image[None], (0, right, 0, down), mode="replicate")[0]
        padded = np.pad(labels, ((0, down), (0, right)), constant_values=_UNKNOWN)
        places = [np.argwhere(padded == order) for order in range(1, 1 + len(self.classes))]
        return _Exercise(image, torch.from_numpy(padded), [p for p in places if len(p)])


_UNKNOWN = -1


class _Exercise:
    """A part of a labelled photo, to take crops from."""

    def __init__(self, image: Tensor, labels: Tensor, places: list[np.ndarray]) -> None:
        self._image, self._labels, self._places = image, labels, places

    def crop(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A square with its labels, turned, mirrored and a little brighter or flatter."""
        height, width = self._labels.shape
        y, x = rng.integers(height), rng.integers(width)
        if self._places and rng.random() < _CENTRED:
            marked = self._places[rng.integers(len(self._places))]
            y, x = marked[rng.integers(len(marked))] + rng.integers(-40, 41, 2)
        top = int(np.clip(y - _CROP // 2, 0, height - _CROP))
        left = int(np.clip(x - _CROP // 2, 0, width - _CROP))
        image = self._image[:, top : top + _CROP, left : left + _CROP]
        labels = self._labels[top : top + _CROP, left : left + _CROP]
        turns = int(rng.integers(4))
        image, labels = torch.rot90(image, turns, (1, 2)), torch.rot90(labels, turns, (0, 1))
        if rng.random() < 0.5:
            image, labels = image.flip(2), labels.flip(1)
        return image * math.exp(rng.normal(0, 0.15)) + rng.normal(0, 0.1), labels


def _loss(answers: Tensor, labels: Tensor) -> Tensor:
    """Marked against unmarked, and which class, each on its own.

    Cross-entropy and the Dice loss (Milletari et al. 2016) of marked against unmarked; for marked
    pixels the cross-entropy of the classes, each of which counts the same: a stain has a hundred
    times the pixels of a crack.
    """
    known, marked = labels != _UNKNOWN, labels > 0
    whole = answers.logsumexp(1)
    surely = torch.where(marked, answers[:, 1:].logsumexp(1), answers[:, 0]) - whole
    entropy = -(surely * known).sum() / known.sum().clamp(min=1)
    sure = (1 - (answers[:, 0] - whole).exp()) * known
    dice = 1 - (2 * (sure * marked).sum() + 1) / ((sure + marked).sum() + 1)
    loss = entropy + dice / 2
    if answers.shape[1] > 2 and marked.any():
        counts = torch.bincount(labels[marked] - 1, minlength=answers.shape[1] - 1)
        weights = (counts > 0) / counts.clamp(min=1)
        which = torch.where(marked, labels - 1, _UNKNOWN)
        loss = loss + F.cross_entropy(answers[:, 1:], which, weights, ignore_index=_UNKNOWN)
    return loss


class _Net(nn.Module):
    STRIDE = 2 ** (len(_WIDTHS) - 1)

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _block(before, width)
            for before, width in zip((channels, *_WIDTHS), _WIDTHS, strict=False)
        )
        self.up = nn.ModuleList(
            _block(_WIDTHS[level + 1] + width, width) for level, width in enumerate(_WIDTHS[:-1])
        )
        self.head = nn.Conv2d(_WIDTHS[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        held: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            held.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = self.up[level](torch.cat([x, held[level]], 1))
        answers: Tensor = self.head(x)
        return answers


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


assert REACH % _Net.STRIDE == 0  # parts are cut on the grid of the coarsest level
