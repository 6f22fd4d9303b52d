"""The scikit-learn face: prune with masks, train the head, predict; in pipelines and searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from finicky.backbones import Backbone, load_backbone
from finicky.errors import DataError, ShapeError, UsageError
from finicky.estimator.arrays import Photos, as_masks, as_photos
from finicky.estimator.fitting import prune_photos, repair_network
from finicky.files import read_json, sha256_file, write_json
from finicky.importance import DEFAULT_CRITERION
from finicky.pruned import load as load_network
from finicky.pruning import PruningPlan, check_keep_ratio, save_pruned
from finicky.spool import Spool
from finicky.training import FeatureKind, LogisticHead, extract, refit_head, train_head

CARD, HEAD = "classifier.json", "head.safetensors"
_PARAMS = (
    *("keep_ratio", "method", "criterion", "repair", "features", "size", "round_to", "C"),
    "random_state",
)


class FinickyClassifier(ClassifierMixin, BaseEstimator):
    """A network pruned by masks, frozen, with a logistic head: two classes.

    ``X`` may be photos, ``(N, H, W, 3)`` uint8 RGB, or N paths of image files; all are brought to
    ``size`` px. Or it may be a table of numbers, ``(N, D)``: feature vectors made elsewhere, such
    as by ``finicky features``; then no network is used and only the head is trained, whatever the
    parameters of the network say.

    Args:
        backbone: Name or file, as `load_backbone` takes it, or a `Backbone`; ``None`` only in one
            that was loaded without it.
        keep_ratio: Share of channels that stays in every layer, in (0, 1]; 1 cuts nothing and
            needs no masks.
        method: ``finicky``, or ``original`` for the 2021 method, plain chains only.
        criterion: Under ``finicky``, what ranks filters; see ``finicky prune --help``.
        repair: After the cut: ``reconstruct`` fits each layer to the unpruned responses on the
            training photos; ``none``; ``auto``: reconstruct, but none under ``original``.
        features: How the last map becomes a vector: mean, max, mean+max or flat.
        size: Side of a photo in px.
        round_to: Under ``finicky``, channel counts from this up become multiples of it.
        C: Inverse strength of the head's L2 penalty; ``None``: cross-validated.
        weights: Where the backbone's weights come from; see `load_backbone`.
        random_state: An integer: of folds and of criteria that draw.

    Attributes:
        classes_: ``(2,)`` labels, ascending; the second is the target that masks show.
        n_features_in_: Numbers in one sample: ``3 · size²`` for photos.
        backbone_: The pruned network; ``None`` after fitting on a table.
        plan_: What stayed of it; ``None`` after fitting on a table.
        importance_: One number a channel of the unpruned network, by convolution.
        head_: The `LogisticHead`.
    """

    backbone_: Backbone | None
    plan_: PruningPlan | None
    importance_: dict[str, np.ndarray]
    classes_: np.ndarray
    head_: LogisticHead

    def __init__(
        self,
        backbone: str | Path | Backbone | None = "vgg16",
        *,
        keep_ratio: float = 0.2,
        method: str = "finicky",
        criterion: str = DEFAULT_CRITERION,
        repair: str = "auto",
        features: str = "mean+max",
        size: int = 96,
        round_to: int = 1,
        C: float | None = None,
        weights: str | Path | None = None,
        random_state: int = 0,
    ) -> None:
        self.backbone = backbone
        self.keep_ratio = keep_ratio
        self.method = method
        self.criterion = criterion
        self.repair = repair
        self.features = features
        self.size = size
        self.round_to = round_to
        self.C = C
        self.weights = weights
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        masks: Sequence[Any] | np.ndarray | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Score filters against the masks, cut, repair, train the head.

        Args:
            X: Photos, paths, or a table of numbers.
            y: ``(N,)``, two classes; masks show the greater one.
            masks: One a photo: ``(H, W)`` arrays or paths of files, not 0 where the target is, of
                the photo's size; ``None`` for a photo where nothing was marked.
            groups: ``(N,)`` which photograph or place a sample is of: folds never split one.
                Default: each sample is its own.

        Raises:
            UsageError: A parameter is out of range, or masks are missing.
            DataError: The photos or labels do not suffice.
        """
        photos = self._photos(X)
        if photos is None:
            # None passes on to scikit-learn, whose words for missing labels all its users know.
            X, y = validate_data(self, X, y, dtype=np.float64)
        labels = self._labels(y, len(X))
        group = _groups(groups, len(labels))
        self.backbone_, self.plan_, self.importance_ = None, None, {}
        if photos is not None:
            self.n_features_in_ = 3 * photos.size**2
            self._prune(photos, labels, group, masks)
        with Spool() as spool:
            rows = X if photos is None else self._extract(photos, spool)
            seed = int(self.random_state)
            if self.C is None:
                head = train_head(rows, labels, group, seed=seed)
            else:
                head = refit_head(rows, labels, C=self.C)
        # As it is written to disk, so that what is loaded answers the same to the last bit.
        self.head_ = replace(head, bias=float(np.float32(head.bias)))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """``(N, 2)`` probabilities, in the order of ``classes_``."""
        check_is_fitted(self, "head_")
        photos = self._photos(X)
        if (photos is None) != (self.backbone_ is None):
            fitted, got = ("photos", "a table") if photos is None else ("a table", "photos")
            raise ValueError(f"this classifier was fitted on {fitted}, got {got} of numbers")
        with Spool() as spool:
            if photos is None:
                rows = validate_data(self, X, dtype=np.float64, reset=False)
            else:
                rows = self._extract(photos, spool)
            target = self.head_.probabilities(rows)
        return np.stack([1 - target, target], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The more probable class of each sample."""
        target = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[target.astype(int)]

    def save(self, folder: str | Path) -> None:
        """Write network, head and, last, ``classifier.json``; `finicky.load` reads them back.

        Of a backbone that was given as a `Backbone` the pruned network is kept, not the whole one:
        to fit what was loaded again, set the parameter ``backbone`` first.

        Raises:
            UsageError: The backbone is a module of your own, which no file can describe.
        """
        check_is_fitted(self, "head_")
        folder = Path(folder)
        if self.backbone_ is not None and self.plan_ is not None:
            if self.backbone_.blueprint is None:
                raise UsageError(f"{self.backbone_.name} has no blueprint: it cannot be saved")
            save_pruned(self.backbone_, self.plan_, folder, size=self.size)
        self.head_.save(folder / HEAD)
        card = {
            "format": "finicky-classifier",
            "version": 1,
            "backbone": None if isinstance(self.backbone, Backbone) else str(self.backbone),
            "weights": None if self.weights is None else str(self.weights),
            "params": {name: getattr(self, name) for name in _PARAMS},
            "classes": {"values": self.classes_.tolist(), "type": self.classes_.dtype.str},
            "n_features_in": int(self.n_features_in_),
            "network": self.backbone_ is not None,
            "head_sha256": sha256_file(folder / HEAD),
        }
        write_json(folder / CARD, card)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; anything amiss is a `DataError`. No code in the files is run."""
        folder = Path(folder)
        card = read_json(folder / CARD)
        try:
            if card["format"] != "finicky-classifier" or card["version"] != 1:
                raise DataError(f"{folder / CARD} is no classifier that this Finicky reads")
            params = {name: card["params"][name] for name in _PARAMS}
            found = cls(card["backbone"], weights=card.get("weights"), **params)
            found.classes_ = _classes(card["classes"])
            found.n_features_in_ = int(card["n_features_in"])
            network, digest = card["network"], card["head_sha256"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{folder / CARD} is damaged: {error}") from error
        if not (folder / HEAD).is_file() or sha256_file(folder / HEAD) != digest:
            raise DataError(f"{folder / HEAD} is not the file that {CARD} describes")
        found.head_ = LogisticHead.load(folder / HEAD)
        found.backbone_, found.plan_, found.importance_ = None, None, {}
        if network:
            found.backbone_, found.plan_ = load_network(folder), _plan(folder)
        return found

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _photos(self, X: Any) -> Photos | None:
        """The photos, or ``None`` where ``X`` is a table for scikit-learn to look at."""
        return as_photos(X, int(self.size))

    def _labels(self, y: ArrayLike, count: int) -> np.ndarray:
        """0 or 1 for each sample; sets ``classes_``."""
        values = np.asarray(y)
        if values.ndim != 1 or len(values) != count:
            raise ShapeError(f"y must be ({count},), one label a sample, got {values.shape}")
        check_classification_targets(values)
        self.classes_, labels = np.unique(values, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                f"{type_of_target(values)}."
            )
        if len(self.classes_) < 2:
            raise DataError(f"y must hold two classes, got 1 class: {self.classes_[0]!r}")
        return np.asarray(labels, dtype=np.int64)

    def _prune(
        self,
        photos: Photos,
        labels: np.ndarray,
        groups: np.ndarray,
        masks: Sequence[Any] | np.ndarray | None,
    ) -> None:
        check_keep_ratio(self.keep_ratio)
        full = self.backbone
        if full is None:
            raise UsageError(
                "this classifier was loaded, and its whole backbone was not saved, since it was "
                "given as an object: set_params(backbone=...) before fitting it again"
            )
        if not isinstance(full, Backbone):
            full = load_backbone(full, weights=self.weights)
        full.check_size(photos.size)
        smaller, plan, self.importance_ = prune_photos(
            full,
            photos,
            labels,
            groups,
            as_masks(masks, photos),
            keep_ratio=self.keep_ratio,
            method=self.method,
            criterion_name=self.criterion,
            round_to=self.round_to,
            seed=int(self.random_state),
        )
        repair = self.repair
        if repair == "auto":
            repair = "none" if self.method == "original" else "reconstruct"
        if repair not in ("none", "reconstruct"):
            raise UsageError(f"repair must be auto, reconstruct or none, got {repair!r}")
        if repair == "reconstruct" and self.keep_ratio < 1:
            repair_network(full, smaller, plan, photos, seed=int(self.random_state))
        self.backbone_, self.plan_ = smaller, plan

    def _extract(self, photos: Photos, spool: Spool) -> np.ndarray:
        assert self.backbone_ is not None
        # Photos are read in the same batches as an array would be sliced.
        tiles = cast(np.ndarray, photos)
        return extract(self.backbone_, tiles, spool, kind=cast(FeatureKind, self.features))


def load(folder: str | Path) -> Backbone | FinickyClassifier:
    """What a folder holds: a pruned network, or a classifier that `FinickyClassifier.save` wrote.

    Outputs are bit-equal to those of what was saved. No code in the files is run.

    Raises:
        DataError: A file is missing or damaged.
    """
    if (Path(folder) / CARD).is_file():
        return FinickyClassifier.load(folder)
    return load_network(folder)


def _classes(card: dict[str, Any]) -> np.ndarray:
    kind = np.dtype(card["type"])
    found = np.array(card["values"], dtype=kind)
    if found.shape != (2,) or kind.kind not in "buifUO":
        raise ValueError(f"two classes expected, got {card}")
    return found


def _plan(folder: Path) -> PruningPlan:
    return PruningPlan.from_json(read_json(folder / "plan.json"), str(folder / "plan.json"))


def _groups(groups: ArrayLike | None, count: int) -> np.ndarray:
    if groups is None:
        return np.arange(count).astype(str)
    found = np.asarray(groups).astype(str)
    if found.shape != (count,):
        raise ShapeError(f"groups must be ({count},), one a sample, got {found.shape}")
    return found
