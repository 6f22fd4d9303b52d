"""What ONNX files and PyTorch answer on the same tiles, and how well these answers agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finicky.evaluation import Interval, bootstrap_metrics
from finicky.export.classifier import Classifier

BATCH = 16


@dataclass(frozen=True)
class Answers:
    """Of one model on N tiles.

    Attributes:
        probabilities: ``(N, 2)`` float32, not target and target.
        map: ``(N, h, w)`` float32, or ``None`` where the model has no map.
    """

    probabilities: np.ndarray
    map: np.ndarray | None

    @property
    def target(self) -> np.ndarray:
        """``(N,)`` float64 probability of the target."""
        return self.probabilities[:, 1].astype(np.float64)

    @property
    def logits(self) -> np.ndarray:
        """``(N,)`` float64, log(P/(1−P)); probabilities near 0 and 1 would hide differences."""
        both = np.clip(self.probabilities.astype(np.float64), 1e-30, None)
        return np.log(both[:, 1]) - np.log(both[:, 0])


@dataclass(frozen=True)
class Agreement:
    """How a model's answers differ from another's.

    Attributes:
        tiles: Share of tiles with the same class at the threshold, in [0, 1].
        cells: Share of map cells on the same side of the map's threshold; ``None`` without a map.
    """

    tiles: float
    cells: float | None


def ask_onnx(
    model: Path | bytes,
    tiles: np.ndarray,
    *,
    batch: int = BATCH,
    threads: int = 0,
    optimise: bool = True,
) -> Answers:
    """Run an ONNX file of ours on ``(N, S, S, 3)`` uint8 tiles; 0 threads: all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model),
        options,
        providers=["CPUExecutionProvider"],
    )
    return _gather([session.run(None, {"tiles": block}) for block in _blocks(tiles, batch)])


def ask_torch(classifier: Classifier, tiles: np.ndarray, *, batch: int = BATCH) -> Answers:
    """Run the PyTorch network on the same tiles."""
    with torch.inference_mode():
        found = []
        for block in _blocks(tiles, batch):
            answer: Any = classifier(torch.from_numpy(block))
            parts = answer if isinstance(answer, tuple) else (answer,)
            found.append([part.numpy() for part in parts])
    return _gather(found)


def agreement(
    ours: Answers, theirs: Answers, *, threshold: float, map_thresholds: Sequence[float]
) -> Agreement:
    """Share of tiles, and of map cells, that both put on the same side."""
    same = np.mean((ours.target >= threshold) == (theirs.target >= threshold))
    cells = None
    if ours.map is not None and theirs.map is not None:
        cells = min(
            float(np.mean((ours.map >= cut) == (theirs.map >= cut)))
            for cut in map_thresholds or (0.5,)
        )
    return Agreement(float(same), cells)


def quality(
    labels: np.ndarray, answers: Answers, groups: np.ndarray, *, threshold: float
) -> dict[str, Interval]:
    """Metrics with their 95 % intervals by photograph."""
    return bootstrap_metrics(labels, answers.target, groups, threshold=threshold)


def _blocks(tiles: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    for start in range(0, len(tiles), batch):
        yield np.array(tiles[start : start + batch])


def _gather(found: list[list[np.ndarray]]) -> Answers:
    parts = [np.concatenate(column) for column in zip(*found, strict=True)]
    return Answers(parts[0], parts[1] if len(parts) > 1 else None)
