"""Proposals: learnt from few photos, in seconds, with or without a network."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from labeler_helpers import make_project

from finicky.errors import UsageError
from finicky.labeler import MaskStore, Workplace, patches
from finicky.labeler.pictures import Pictures
from finicky.labeler.proposals import Box, Proposer
from finicky.labeler.proposals.features import classic_features
from finicky.labeler.proposals.learner import Lesson, PixelClassifier
from finicky.labeler.states import States
from finicky.labeler.store import Author


def _photo(seed: int, side: int = 160) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    grey = rng.integers(150, 200, (side, side)).astype(np.float32)
    marked = np.zeros((side, side), bool)
    x = np.clip((side / 3 + np.cumsum(rng.normal(0, 0.7, side))).astype(int), 3, side - 4)
    for y in range(side):
        marked[y, x[y] - 1 : x[y] + 2] = True
    grey[marked] -= 70
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2), marked


def test_a_classifier_finds_a_crack_that_it_has_not_seen() -> None:
    lessons = [Lesson(rgb, m, ~m) for rgb, m in map(_photo, range(3))]
    rgb, marked = _photo(9)
    found = PixelClassifier(lessons).probability(rgb) > 0.5
    assert (found & marked).sum() / (found | marked).sum() > 0.7


def test_the_answer_does_not_depend_on_how_a_photo_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lessons = [Lesson(rgb, m, ~m) for rgb, m in map(_photo, range(2))]
    classifier = PixelClassifier(lessons)
    rgb, _ = _photo(5, side=300)
    whole = classifier.probability(rgb)
    monkeypatch.setattr("finicky.labeler.proposals.learner._SIDE", 130)
    parts = classifier.probability(rgb)
    # The tails of the widest blur reach beyond the border that parts are computed with.
    assert np.mean(np.abs(whole - parts) > 0.1) < 0.01


def test_features_do_not_depend_on_exposure() -> None:
    rgb, _ = _photo(1)
    darker = (rgb // 2).astype(np.uint8)
    a, b = classic_features(rgb), classic_features(darker)
    assert a.shape == (160, 160, a.shape[2])
    assert np.median(np.abs(a - b)) < 0.1


@pytest.fixture
def desk(tmp_path: Path) -> tuple[Workplace, MaskStore, States, Proposer]:
    place = make_project(tmp_path / "p", photos=5)
    photos = place.scan()
    store, states = MaskStore(place, photos), States(place)
    return place, store, states, Proposer(place, photos, store, states, Pictures())


def _finish(desk: tuple[Workplace, MaskStore, States, Proposer], count: int) -> None:
    place, store, states, _ = desk
    ids = np.zeros((120, 200), np.uint8)
    ids[30:90, 40:43] = ids[30:90, 97:100] = ids[30:33, 40:100] = ids[87:90, 40:100] = 1
    for photo in place.scan()[:count]:
        store.save(photo, patches.encode(ids), Author("session-a", 1, ""))
        states.update(photo, status="done")


def test_nothing_is_proposed_before_there_is_enough_to_learn(
    desk: tuple[Workplace, MaskStore, States, Proposer],
) -> None:
    place, _, _, proposer = desk
    assert not proposer.standing()["ready"]
    assert "Finish 3 more photos" in proposer.standing()["text"]
    _finish(desk, 2)
    with pytest.raises(UsageError, match="Finish 1 more photo,"):
        proposer.probability(place.scan()[3], Box(0, 0, 200, 120))


def test_a_proposal_covers_what_was_marked_and_names_the_next_photo(
    desk: tuple[Workplace, MaskStore, States, Proposer],
) -> None:
    place, store, _, proposer = desk
    _finish(desk, 3)
    proposer.photo_done()
    end = time.monotonic() + 60
    while (standing := proposer.standing())["training"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    photos = place.scan()
    assert standing["learnt_from"] == 3
    assert standing["next"] in {photo.id for photo in photos[3:]}
    found = proposer.probability(photos[4], Box(0, 0, 200, 120)) > 127
    marked = store.load(photos[0]).ids == 1
    assert (found & marked).sum() / (found | marked).sum() > 0.8


@pytest.mark.parametrize("box", [Box(-1, 0, 5, 5), Box(0, 0, 201, 5), Box(0, 0, 0, 5)])
def test_a_part_outside_of_the_photo_is_refused(
    desk: tuple[Workplace, MaskStore, States, Proposer], box: Box
) -> None:
    place, _, _, proposer = desk
    with pytest.raises(UsageError, match="not in the photo"):
        proposer.probability(place.scan()[0], box)


def test_the_best_filters_of_a_network_help_where_torch_is_there(
    desk: tuple[Workplace, MaskStore, States, Proposer],
) -> None:
    pytest.importorskip("torch")
    from finicky.backbones import load_backbone
    from finicky.data.pairs import Pair
    from finicky.labeler.proposals.filters import BestFilters

    place, store, _, _ = desk
    _finish(desk, 2)
    pairs = [Pair(p.key, p.path, store.path(p)) for p in place.scan()[:2]]
    backbone = load_backbone("alexnet-bn", weights="random")
    best = BestFilters(backbone, pairs, place.classes, place.classes.targets())
    assert len(best.chosen) == 24
    assert best.features(np.zeros((120, 200, 3), np.uint8)).shape == (120, 200, 24)
    assert not best.features(np.zeros((8, 200, 3), np.uint8)).any()


def test_an_unknown_network_does_not_stop_the_labeling(tmp_path: Path) -> None:
    place = make_project(tmp_path / "p", photos=4)
    photos = place.scan()
    store, states = MaskStore(place, photos), States(place)
    proposer = Proposer(place, photos, store, states, Pictures(), backbone="no-such-network")
    _finish((place, store, states, proposer), 3)
    assert proposer.probability(photos[3], Box(0, 0, 50, 50)).shape == (50, 50)
