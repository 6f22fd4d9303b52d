"""The head: logistic regression on features, with cross-validated strength."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from finicky.errors import DataError
from finicky.files import write_tensors

# The original's grid.
C_GRID = tuple(10.0**k for k in range(-3, 6))
FOLDS = 4
# Smallest standard deviation of a feature, as a share of its mean, that is brought up to 1. The
# next one is tried where a head multiplies rounding too much.
LEAST_VARIATIONS = (1e-3, 1e-2, 1e-1, 1.0)
# Largest `LogisticHead.gain`. In ten networks, cut and not, the logits of PyTorch and ONNX Runtime
# differed by 0.9e-7 to 4.9e-7 of the gain, which was 3 to 11 where all was well and 50 to 170 where
# not. With 15 there is room below the 1e-5 that an exported file may differ.
MOST_GAIN = 15.0
# What counting hardly varying features less may cost, in nats of the folds' log loss. On Crack500,
# of VGG16 cut plainly to a tenth, it cost 0.03 and took balanced accuracy on test from 0.75 to
# 0.67; at keep 0.05 nothing was left of 0.71 but one answer to all.
MOST_LOSS = 0.01
# float32 probabilities end here: a logit beyond ±69 is P = 1e-30 or 1, whatever its rounding.
SATURATED = 69.0


@dataclass(frozen=True)
class LogisticHead:
    """``P(target) = sigmoid(features @ weight + bias)``.

    Attributes:
        weight: ``(D,)`` float32, the features' standardisation folded in.
        bias: One number.
        C: Inverse strength of the L2 penalty that cross-validation chose.
        cv_loss: Mean log loss of the chosen C over the folds, in nats; NaN where C was given.
        least_variation: Standard deviations below this share of the mean were not brought up to 1.
    """

    weight: np.ndarray
    bias: float
    C: float
    cv_loss: float
    least_variation: float = LEAST_VARIATIONS[0]

    def gain(self, features: np.ndarray) -> float:
        """By how much relative rounding of ``(N, D)`` features is multiplied in the logits.

        The largest Σ|wᵢfᵢ| over the largest logit, which counts as 1 at least; rows whose
        probability is 0 or 1 to float32 do not count.
        """
        parts = np.asarray(features, dtype=np.float64) * self.weight
        logits = np.abs(parts.sum(1) + self.bias)
        sums = np.abs(parts).sum(1)[logits <= SATURATED]
        return float(sums.max(initial=0.0) / np.clip(logits.max(), 1.0, SATURATED))

    def shrunk(self, features: np.ndarray) -> Self:
        """The same order and classes, so near one half that `gain` is at most `MOST_GAIN`."""
        largest = float(np.abs(np.asarray(features, dtype=np.float64) * self.weight).sum(1).max())
        # A little less, because weights are rounded, too.
        factor = min(1.0, 0.999 * MOST_GAIN / largest) if largest else 1.0
        weight = (self.weight * factor).astype(np.float32)
        return replace(self, weight=weight, bias=self.bias * factor)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """``(N, D)`` features to ``(N,)`` float64 probabilities of the target."""
        logits = np.asarray(features, dtype=np.float64) @ self.weight.astype(np.float64) + self.bias
        return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))

    def save(self, path: Path) -> None:
        """Write ``head.safetensors``, whole or not at all."""
        from safetensors.numpy import save

        tensors = {"weight": self.weight, "bias": np.array([self.bias], dtype=np.float32)}
        notes = {"C": repr(self.C), "cv_loss": repr(self.cv_loss)}
        write_tensors(path, save(tensors, metadata=notes))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; a damaged file is a `DataError`."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                notes = file.metadata() or {}
                weight = file.get_tensor("weight")
                bias = float(file.get_tensor("bias")[0])
            return cls(weight, bias, float(notes["C"]), float(notes["cv_loss"]))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} is no head of ours: {error}") from error


def train_head(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> LogisticHead:
    """Fit on all rows, C chosen by cross-validation that never splits a group.

    Features are standardised; classes are weighted inversely to their frequency; C is the one of
    the original's grid (0.001 to 100,000 by tens) with the least log loss over 4 folds. Where the
    head would multiply rounding by more than `MOST_GAIN`, features that hardly vary are counted
    less: what float32 cannot carry must not decide. Where they are all that tells the classes
    apart, the head is shrunk instead: it answers the same, and is never sure.

    Args:
        features: ``(N, D)`` float.
        labels: ``(N,)`` 0 or 1, 1 = target.
        groups: ``(N,)`` which photograph a row came from.
        seed: Shuffles the folds.

    Raises:
        DataError: Either class has rows from fewer than 2 groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.asarray(labels)
    folds = min(FOLDS, *(len(np.unique(groups[labels == c])) for c in (0, 1)))
    if folds < 2:
        raise DataError(
            "training the head needs both classes from at least 2 photos each; label more photos"
        )
    splits = list(
        StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    )
    first = None
    for variation in LEAST_VARIATIONS:
        rows = _standardise(features, variation)
        best_c, loss = _search(rows.values, labels, splits)
        head = _train(rows, labels, C=best_c, cv_loss=loss)
        first = first or head
        if head.gain(features) <= MOST_GAIN and loss <= first.cv_loss + MOST_LOSS:
            return head
    assert first is not None
    return first.shrunk(features)


def _search(
    rows: np.ndarray, labels: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float]:
    """The C with the least mean log loss over the folds, and that loss.

    From the strongest penalty to the weakest, each fit starting from the one before; ends when the
    loss has risen twice in a row, because the loss over C has one valley, and weak penalties are
    what takes time.
    """
    from sklearn.metrics import log_loss

    models = [_model(1.0, warm_start=True) for _ in splits]
    best, risen = (C_GRID[0], np.inf), 0
    for c in C_GRID:
        losses = []
        for model, (train, held_out) in zip(models, splits, strict=True):
            model.set_params(C=c)
            _fit(model, rows[train], labels[train])
            predicted = model.predict_proba(rows[held_out])[:, 1]
            losses.append(log_loss(labels[held_out], predicted, labels=[0, 1]))
        mean = float(np.mean(losses))
        risen = 0 if mean < best[1] else risen + 1
        best = min(best, (c, mean), key=lambda pair: pair[1])
        if risen == 2:
            break
    return best


def refit_head(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    C: float,
    least_variation: float = LEAST_VARIATIONS[0],
) -> LogisticHead:
    """Fit with a given C, on other rows than those that chose it."""
    rows = _standardise(features, least_variation)
    return _train(rows, np.asarray(labels), C=C, cv_loss=float("nan"))


def _model(c: float, *, warm_start: bool = False) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        C=c, class_weight="balanced", max_iter=300, tol=1e-3, warm_start=warm_start
    )


def _fit(model: Any, rows: np.ndarray, labels: np.ndarray) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # A huge C on few rows separates them perfectly and never converges; it loses anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows, labels)


@dataclass(frozen=True)
class _Rows:
    """Standardised features: ``values`` is ``(features − mean) / scale``, turned by ``basis``."""

    values: np.ndarray
    basis: np.ndarray | None
    mean: np.ndarray
    scale: np.ndarray
    least_variation: float


def _standardise(features: np.ndarray, least_variation: float) -> _Rows:
    """Rows with mean 0 and variance 1 (or less), turned onto their own axes where D > N.

    The L2 penalty does not see rotations, so that fitting N numbers a row instead of D gives the
    same model, for one decomposition that all C and folds share.
    """
    rows = np.asarray(features, dtype=np.float64)
    mean, scale = rows.mean(0), rows.std(0)
    # A channel that hardly varies around a large value would be blown up until float32 rounding
    # shows: the exported network then disagreed with PyTorch by 3 in 1000.
    scale = np.maximum(scale, least_variation * np.abs(mean))
    scale[scale == 0] = 1.0
    rows = (rows - mean) / scale
    if rows.shape[1] <= rows.shape[0]:
        return _Rows(rows, None, mean, scale, least_variation)
    left, values, basis = np.linalg.svd(rows, full_matrices=False)
    return _Rows(left * values, basis, mean, scale, least_variation)


def _train(rows: _Rows, labels: np.ndarray, *, C: float, cv_loss: float) -> LogisticHead:
    """Fit, and fold the standardisation into the weights."""
    model = _model(C)
    _fit(model, rows.values, labels)
    coefficients = model.coef_[0] if rows.basis is None else model.coef_[0] @ rows.basis
    weight = coefficients / rows.scale
    bias = float(model.intercept_[0] - weight @ rows.mean)
    return LogisticHead(weight.astype(np.float32), bias, C, cv_loss, rows.least_variation)
