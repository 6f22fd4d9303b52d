"""Does the file that leaves answer as the network that was trained? From the image file on.

The reference is the PyTorch network, made again from its plan and weights, on tiles read as in
training. Against it stands the ONNX file on tiles read as on the device, in every mix of batch 1
and 16, one thread and all, with ONNX Runtime's optimisations and without.

Compared are logits, because probabilities near 0 and 1 hide differences, relative to the largest
logit: an absolute tolerance accepts anything from a network whose answers are small. A check that
cannot fail proves nothing, so four deliberate mistakes are made as well, and each must be found.
Grey photos cannot tell whether red and blue are swapped: tinted copies of some are compared too.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from finicky.errors import DataError
from finicky.export.answers import BATCH, Answers, ask_onnx, ask_torch
from finicky.export.classifier import Classifier
from finicky.images import read_image

TOLERANCE = 1e-5
CONTROL_TILES = 32


@dataclass(frozen=True)
class Case:
    """One way of running the file, against PyTorch.

    Attributes:
        batch: Tiles a call.
        threads: Of ONNX Runtime; 0: all cores.
        optimised: Whether ONNX Runtime may rewrite the graph.
        difference: Largest difference of a logit, relative to the largest logit.
        map_difference: Largest difference of a map's cell, relative to the largest; ``None``
            without a map.
        same_class: Whether all tiles got the same class, ties within ten tolerances aside.
    """

    batch: int
    threads: int
    optimised: bool
    difference: float
    map_difference: float | None
    same_class: bool

    @property
    def worst(self) -> float:
        """The larger of both differences."""
        return max(self.difference, self.map_difference or 0.0)


@dataclass(frozen=True)
class Verification:
    """What was compared and found.

    Attributes:
        tiles: How many image files.
        tolerance: Largest difference that passes.
        cases: Every way of running the file.
        controls: What each deliberate mistake changed; all must exceed the tolerance.
        amplification: By how much the head multiplies relative rounding of its features:
            Σ|wᵢfᵢ| over the largest logit. Explains a difference that is too large.
        tinted: How many tinted copies were compared besides, because the tiles are grey.
    """

    tiles: int
    tolerance: float
    cases: tuple[Case, ...]
    controls: dict[str, float]
    amplification: float
    tinted: int = 0

    @property
    def difference(self) -> float:
        """The largest of all cases."""
        return max(case.worst for case in self.cases)

    @property
    def exact(self) -> bool:
        """Every case within the tolerance and no class changed."""
        return all(case.worst <= self.tolerance and case.same_class for case in self.cases)

    @property
    def controls_found(self) -> int:
        """How many deliberate mistakes were noticed."""
        return sum(value > self.tolerance for value in self.controls.values())

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return {
            "tiles": self.tiles,
            "tinted": self.tinted,
            "tolerance": self.tolerance,
            "difference": self.difference,
            "exact": self.exact,
            "amplification": self.amplification,
            "controls": self.controls,
            "cases": [vars(case) for case in self.cases],
        }


def verify(
    classifier: Classifier,
    model: Path,
    files: Sequence[Path],
    reference: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
) -> Verification:
    """Compare an ONNX file with PyTorch, and show that the comparison can fail.

    Args:
        classifier: The network in PyTorch.
        model: The finished ONNX file.
        files: Tiles on disk.
        reference: ``(N, S, S, 3)`` uint8, the same tiles as training read them.
        tolerance: Largest relative difference that passes.
    """
    size = reference.shape[1]
    device = np.stack([_as_on_device(path, size) for path in files])
    # Spread over all: a split's first tiles are of one class.
    some = np.linspace(0, len(files) - 1, min(CONTROL_TILES, len(files))).astype(int)
    if is_grey(reference[some]):
        device, reference = (
            np.concatenate([tiles, tinted(tiles[some])]) for tiles in (device, reference)
        )
        some = np.arange(len(files), len(device))
    ours = ask_torch(classifier, reference)
    ways = itertools.product((1, BATCH), (1, 0), (True, False))
    cases = []
    for batch, threads, optimise in ways:
        theirs = ask_onnx(model, device, batch=batch, threads=threads, optimise=optimise)
        cases.append(_case(ours, theirs, (batch, threads, optimise), tolerance))
    return Verification(
        len(files),
        tolerance,
        tuple(cases),
        deliberate_mistakes(classifier, model, device[some]),
        amplification(classifier, reference[some]),
        len(device) - len(files),
    )


def is_grey(tiles: np.ndarray) -> bool:
    """Whether red and blue are as good as the same: to swap them would hardly show."""
    return bool(np.abs(tiles[..., 0].astype(int) - tiles[..., 2]).mean() < 1)


def tinted(tiles: np.ndarray) -> np.ndarray:
    """Copies with more red than blue, black and white ones too."""
    return np.rint(0.85 * tiles + np.array([38.0, 19.0, 0.0])).astype(np.uint8)


def deliberate_mistakes(classifier: Classifier, model: Path, tiles: np.ndarray) -> dict[str, float]:
    """How far each mistake moves the answers, in the same measure as a difference."""
    right = ask_torch(classifier, tiles)
    exported = ask_onnx(model, tiles)
    shifted = np.concatenate([tiles[:, :, 1:], tiles[:, :, -1:]], axis=2)
    found = {
        "one weight 1 % larger": ask_torch(_weight_off(classifier, tiles), tiles),
        "wrong mean and standard deviation": ask_torch(_scale_off(classifier), tiles),
    }
    differences = {name: _difference(wrong, exported) for name, wrong in found.items()}
    differences["red and blue swapped"] = _difference(right, ask_onnx(model, tiles[..., ::-1]))
    differences["tile one pixel off"] = _difference(right, ask_onnx(model, shifted))
    return differences


def amplification(classifier: Classifier, tiles: np.ndarray) -> float:
    """Σ|wᵢfᵢ| of the head over the largest logit: large where weights of both signs cancel."""
    with torch.inference_mode():
        maps = classifier.backbone(classifier.prepare(torch.from_numpy(np.array(tiles))))
        features = classifier.features(maps).double()
    weight, bias = classifier.head.weight[1].double(), classifier.head.bias[1].double()
    parts = (features * weight).abs().sum(1) + bias.abs()
    logits = features @ weight + bias
    return float(parts.max() / logits.abs().max().clamp(min=1.0))


def _as_on_device(path: Path, size: int) -> np.ndarray:
    tile = read_image(path)
    if tile.shape[:2] != (size, size):
        raise DataError(f"{path} must be {size}x{size} px to be compared, got {tile.shape[:2]}")
    return tile


def _case(ours: Answers, theirs: Answers, way: tuple[int, int, bool], tolerance: float) -> Case:
    reference = ours.logits
    scale = max(float(np.abs(reference).max()), 1.0)
    sure = np.abs(reference) > 10 * tolerance * scale
    same = np.sign(reference[sure]) == np.sign(theirs.logits[sure])
    maps = _map_difference(ours, theirs)
    return Case(*way, _logit_difference(ours, theirs), maps, bool(same.all()))


def _difference(ours: Answers, theirs: Answers) -> float:
    return max(_logit_difference(ours, theirs), _map_difference(ours, theirs) or 0.0)


def _logit_difference(ours: Answers, theirs: Answers) -> float:
    # Not below 1: near P = 0.5 the last bit of a float32 probability is 2e-7 of logit 1.
    scale = max(float(np.abs(ours.logits).max()), 1.0)
    return float(np.abs(ours.logits - theirs.logits).max()) / scale


def _map_difference(ours: Answers, theirs: Answers) -> float | None:
    if ours.map is None or theirs.map is None:
        return None if ours.map is theirs.map else float("inf")
    largest = max(float(np.abs(ours.map).max()), 1e-12)
    return float(np.abs(ours.map - theirs.map).max()) / largest


def _weight_off(classifier: Classifier, tiles: np.ndarray) -> Classifier:
    """A copy in which one weight of the first convolution, the one that counts most, is 1 % off."""
    wrong = copy.deepcopy(classifier)
    weight = next(m for m in wrong.backbone.modules() if isinstance(m, nn.Conv2d)).weight
    weight.requires_grad_(True)
    answer: Any = wrong(torch.from_numpy(np.array(tiles)))
    probabilities = answer[0] if isinstance(answer, tuple) else answer
    probabilities.clamp(min=1e-30).log().diff(dim=1).sum().backward()
    assert weight.grad is not None
    influence = (weight.grad * weight.detach()).abs()
    place = np.unravel_index(int(influence.reshape(-1).argmax()), influence.shape)
    with torch.no_grad():
        weight[place] *= 1.01
    weight.requires_grad_(False)
    return wrong


def _scale_off(classifier: Classifier) -> Classifier:
    """A copy whose mean is half a grey level off and whose standard deviation is 1 % off."""
    wrong = copy.deepcopy(classifier)
    wrong.prepare.mean += 0.5
    wrong.prepare.std *= 1.01
    return wrong
