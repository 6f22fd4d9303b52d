"""The scikit-learn face: its contract, masks on their way through it, and what lies on disk."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import finicky
from finicky.backbones import Backbone, Provenance, freeze, load_backbone
from finicky.backbones.backbone import PREPROCESSINGS
from finicky.errors import DataError, ShapeError, UsageError
from finicky.estimator import FinickyClassifier
from support import ROOT

SIZE = 32
# Checks of scikit-learn that this classifier is not meant to pass, each with the reason.
EXPECTED_FAILED: dict[str, str] = {}


@parametrize_with_checks([FinickyClassifier()], expected_failed_checks=lambda _: EXPECTED_FAILED)
def test_contract_of_scikit_learn(estimator: Any, check: Any) -> None:
    """On tables of numbers, which is what the checks hand over: the head alone."""
    check(estimator)


def _tiny(name: str = "tiny") -> Backbone:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.ReLU(),
    )
    return Backbone(
        name, freeze(module), PREPROCESSINGS["unit"], Provenance("drawn", "none"), min_size=8
    )


@pytest.fixture(scope="module")
def marked() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Photos, labels, masks, groups: grey noise, with a dark line where the label is 1."""
    random = np.random.default_rng(0)
    photos = random.integers(100, 200, (24, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.zeros((24, SIZE, SIZE), dtype=bool)
    labels = np.arange(24) % 2
    for number in np.flatnonzero(labels):
        masks[number, random.integers(2, SIZE - 2)] = True
    photos[masks] = 10
    return photos, labels, masks, np.arange(24) // 2


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def _classifier(**more: Any) -> FinickyClassifier:
    return FinickyClassifier(_tiny(), size=SIZE, keep_ratio=0.5, **{"repair": "none", **more})


def test_photos_with_masks_are_told_apart(marked: Any) -> None:
    photos, labels, masks, groups = marked
    names = np.where(labels == 1, "crack", "clean")[: len(labels)]
    found = _classifier(repair="auto")
    found.fit(photos[:16], names[:16], masks=masks[:16], groups=groups[:16])
    assert found.classes_.tolist() == ["clean", "crack"]
    assert found.n_features_in_ == SIZE * SIZE * 3
    assert found.backbone_ is not None and found.backbone_.module[0].out_channels == 6  # type: ignore[index]
    chances = found.predict_proba(photos[16:])
    np.testing.assert_allclose(chances.sum(1), 1)
    assert found.score(photos[16:], names[16:]) >= 0.75
    assert found.predict(photos[16:]).tolist() == found.classes_[chances.argmax(1)].tolist()


def test_masks_choose_the_channels(marked: Any) -> None:
    """Masks of something else keep other filters: they are not just passed through."""
    photos, labels, masks, _ = marked
    here = _classifier().fit(photos, labels, masks=masks).plan_
    elsewhere = _classifier().fit(photos, labels, masks=np.roll(masks, 9, axis=1)).plan_
    assert here is not None and elsewhere is not None
    assert here.kept != elsewhere.kept


def test_paths_equal_arrays(marked: Any, tmp_path: Path) -> None:
    photos, labels, masks, _ = marked
    paths, marks = [], []
    for number, (photo, mask) in enumerate(zip(photos, masks, strict=True)):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(photo).save(paths[-1])
        mark = tmp_path / f"mask-{number}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(mark)
        marks.append(mark if mask.any() else None)  # nothing is marked where there is no file
    by_array = _classifier().fit(photos, labels, masks=masks).predict_proba(photos)
    by_path = _classifier().fit(paths, labels, masks=marks).predict_proba(paths)
    np.testing.assert_array_equal(by_path, by_array)


def test_other_sizes_are_brought_to_one(marked: Any) -> None:
    photos, labels, masks, _ = marked
    large = photos.repeat(2, 1).repeat(2, 2), masks.repeat(2, 1).repeat(2, 2)
    found = _classifier().fit(large[0], labels, masks=large[1])
    assert found.predict(list(large[0][:2])).shape == (2,)
    assert found.n_features_in_ == SIZE * SIZE * 3


def test_a_list_of_photos_of_several_sizes_goes_with_masks_of_those_sizes(marked: Any) -> None:
    photos, labels, masks, _ = marked
    half = len(photos) // 2
    large = [p.repeat(2, 0).repeat(2, 1) for p in photos[:half]]
    marks = [m.repeat(2, 0).repeat(2, 1) for m in masks[:half]]
    several, theirs = [*large, *photos[half:]], [*marks, *masks[half:]]
    found = _classifier().fit(several, labels, masks=theirs)
    assert found.predict(several).shape == (len(several),)
    together = np.empty(len(several), dtype=object)
    together[:] = several
    np.testing.assert_array_equal(found.predict_proba(together), found.predict_proba(several))
    with pytest.raises(ShapeError, match=f"mask 0 is {SIZE}×{SIZE} px, its photo {2 * SIZE}"):
        _classifier().fit(several, labels, masks=masks)


def test_original_method_and_unpruned_network(marked: Any) -> None:
    photos, labels, masks, _ = marked
    original = _classifier(method="original").fit(photos, labels, masks=masks)
    assert original.plan_ is not None and original.plan_.method == "original"
    full = FinickyClassifier(_tiny(), size=SIZE, keep_ratio=1).fit(photos, labels)
    assert full.backbone_.module[0].out_channels == 12  # type: ignore[union-attr, index]


def test_grid_search_in_a_pipeline_routes_masks_and_groups(routing: None, marked: Any) -> None:  # noqa: ARG001
    photos, labels, masks, groups = marked
    last = _classifier().set_fit_request(masks=True, groups=True)
    steps = Pipeline([("same", FunctionTransformer(None)), ("finicky", last)])
    ratios = {"finicky__keep_ratio": [0.25, 0.5]}
    search = GridSearchCV(steps, ratios, cv=GroupKFold(2), error_score="raise")
    search.fit(photos, labels, masks=masks, groups=groups)
    assert len(search.cv_results_["mean_test_score"]) == 2
    assert search.predict(photos[:3]).shape == (3,)
    assert search.best_estimator_[-1].plan_ is not None


def test_cross_validation_by_group_in_two_processes(routing: None, marked: Any) -> None:  # noqa: ARG001
    photos, labels, masks, groups = marked
    one = _classifier(C=1.0).set_fit_request(masks=True, groups=True)
    about: dict[str, Any] = {
        "cv": GroupKFold(3),
        "params": {"masks": masks, "groups": groups},
        "error_score": "raise",
    }
    alone = cross_val_score(one, photos, labels, n_jobs=1, **about)
    assert alone.shape == (3,)
    np.testing.assert_array_equal(cross_val_score(one, photos, labels, n_jobs=2, **about), alone)


def test_clone_has_the_parameters_and_nothing_learnt(marked: Any) -> None:
    photos, labels, masks, _ = marked
    fitted = _classifier(C=10.0).fit(photos, labels, masks=masks)
    fresh = clone(fitted)
    assert fresh.get_params()["C"] == 10.0 and fresh.keep_ratio == 0.5
    with pytest.raises(NotFittedError):
        fresh.predict(photos)


@pytest.mark.parametrize("network", [True, False])
def test_saved_and_loaded_answers_are_equal(marked: Any, tmp_path: Path, network: bool) -> None:
    photos, labels, masks, _ = marked
    names = np.where(labels == 1, "crack", "clean")
    photos = photos.repeat(2, 1).repeat(2, 2)
    masks = masks.repeat(2, 1).repeat(2, 2)
    made = FinickyClassifier("alexnet", weights="random", size=64, keep_ratio=0.1, C=1.0)
    X = photos if network else photos.reshape(24, -1)[:, :20].astype(float)
    made.fit(X, names, masks=masks)
    made.save(tmp_path / "out")
    again = finicky.load(tmp_path / "out")
    assert isinstance(again, FinickyClassifier)
    np.testing.assert_array_equal(again.predict_proba(X), made.predict_proba(X))
    assert again.predict(X[:2]).tolist() == made.predict(X[:2]).tolist()
    assert again.get_params() == made.get_params()
    assert not list(tmp_path.rglob("*.pkl"))


def test_loaded_without_its_whole_backbone_it_is_not_fitted_with_another(
    marked: Any, tmp_path: Path
) -> None:
    photos, labels, masks, _ = marked
    whole = load_backbone("alexnet", weights="random")
    photos, masks = photos.repeat(2, 1).repeat(2, 2), masks.repeat(2, 1).repeat(2, 2)
    made = FinickyClassifier(whole, size=64, keep_ratio=0.1, C=1.0, repair="none")
    made.fit(photos, labels, masks=masks).save(tmp_path)
    again = FinickyClassifier.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(photos), made.predict_proba(photos))
    with pytest.raises(UsageError, match=r"set_params\(backbone=\.\.\.\) before fitting it again"):
        again.fit(photos, labels, masks=masks)
    again.set_params(backbone=whole).fit(photos, labels, masks=masks)
    np.testing.assert_array_equal(again.predict_proba(photos), made.predict_proba(photos))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": "else"}, "no classifier that this Finicky reads"),
        ({"classes": {"values": [1], "type": "<i8"}}, "is damaged: two classes expected"),
        ({"params": {}}, "is damaged"),
        ({"head_sha256": "0"}, "is not the file that classifier.json describes"),
    ],
)
def test_damaged_folder_is_one_clear_line(tmp_path: Path, change: dict, text: str) -> None:
    rows = np.random.default_rng(0).normal(size=(12, 3))
    FinickyClassifier(C=1.0).fit(rows, rows[:, 0] > 0).save(tmp_path)
    card = json.loads((tmp_path / "classifier.json").read_text()) | change
    (tmp_path / "classifier.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match=text):
        finicky.load(tmp_path)


def test_module_of_your_own_cannot_be_saved(marked: Any, tmp_path: Path) -> None:
    photos, labels, masks, _ = marked
    with pytest.raises(UsageError, match="has no blueprint: it cannot be saved"):
        _classifier(C=1.0).fit(photos, labels, masks=masks).save(tmp_path)


def test_bad_input_is_one_clear_line(marked: Any) -> None:
    photos, labels, masks, _ = marked
    with pytest.raises(ShapeError, match=r"photos must be \(N, H, W, 3\) uint8 RGB, got .*float"):
        _classifier().fit(photos.astype(float), labels, masks=masks)
    with pytest.raises(UsageError, match="fit got none that shows the target: pass masks="):
        _classifier().fit(photos, labels)
    with pytest.raises(ShapeError, match="one mask a photo expected, got 3 for 24"):
        _classifier().fit(photos, labels, masks=masks[:3])
    with pytest.raises(ShapeError, match="mask 0 is 16×32 px, its photo 32×32"):
        _classifier().fit(photos, labels, masks=masks[:, :, :16])
    with pytest.raises(UsageError, match="repair must be auto, reconstruct or none, got 'glue'"):
        _classifier(repair="glue").fit(photos, labels, masks=masks)
    with pytest.raises(UsageError, match=r"keep ratio must be in \(0, 1\], got 0"):
        FinickyClassifier(_tiny(), size=SIZE, keep_ratio=0).fit(photos, labels, masks=masks)
    with pytest.raises(ShapeError, match=r"y must be \(24,\), one label a sample, got \(3,\)"):
        _classifier().fit(photos, labels[:3], masks=masks)
    fitted = _classifier(C=1.0).fit(photos, labels, masks=masks)
    with pytest.raises(ValueError, match="fitted on photos, got a table of numbers"):
        fitted.predict(np.zeros((2, 5)))


def test_random_state_decides_everything(marked: Any) -> None:
    photos, labels, masks, _ = marked
    first, second = (
        _classifier(random_state=3).fit(photos, labels, masks=masks).predict_proba(photos)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_example_of_the_manual_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "howto" / "scikit-learn.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    best, same = done.stdout.splitlines()
    assert "keep_ratio" in best and same == "True"
