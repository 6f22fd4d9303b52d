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
from finicky.labeler.proposals.learner import PixelClassifier
from finicky.labeler.proposals.lessons import Lesson
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


def _lessons(count: int) -> list[Lesson]:
    photos = [_photo(seed) for seed in range(count)]
    return [Lesson(rgb, m.astype(np.uint8), np.ones_like(m)) for rgb, m in photos]


def _with_stain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo with a crack (1) and a stain (3)."""
    rgb, marked = _photo(seed)
    labels = marked.astype(np.uint8)
    y, x = np.mgrid[:160, :160]
    stain = (y - 60 - 9 * seed) ** 2 + (x - 125) ** 2 < 18**2
    rgb[stain] = rgb[stain] // 3
    labels[stain] = 3
    return rgb, labels


def test_a_classifier_finds_a_crack_that_it_has_not_seen() -> None:
    rgb, marked = _photo(9)
    found = PixelClassifier(_lessons(3)).probability(rgb)[0] > 0.5
    assert (found & marked).sum() / (found | marked).sum() > 0.7


def test_the_answer_does_not_depend_on_how_a_photo_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = PixelClassifier(_lessons(2))
    rgb, _ = _photo(5, side=300)
    whole = classifier.probability(rgb)
    monkeypatch.setattr("finicky.labeler.proposals.lessons.SIDE", 130)
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
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workplace, MaskStore, States, Proposer]:
    monkeypatch.setattr("finicky.labeler.proposals.proposer._has_torch", lambda: False)
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
        proposer.propose(place.scan()[3], Box(0, 0, 200, 120))


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
    found = proposer.propose(photos[4], Box(0, 0, 200, 120)).score > 127
    marked = store.load(photos[0]).ids == 1
    assert (found & marked).sum() / (found | marked).sum() > 0.8


@pytest.mark.parametrize("box", [Box(-1, 0, 5, 5), Box(0, 0, 201, 5), Box(0, 0, 0, 5)])
def test_a_part_outside_of_the_photo_is_refused(
    desk: tuple[Workplace, MaskStore, States, Proposer], box: Box
) -> None:
    place, _, _, proposer = desk
    with pytest.raises(UsageError, match="not in the photo"):
        proposer.propose(place.scan()[0], box)


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
    assert proposer.propose(photos[3], Box(0, 0, 50, 50)).score.shape == (50, 50)


def test_forests_tell_classes_apart() -> None:
    photos = [_with_stain(seed) for seed in range(3)]
    classifier = PixelClassifier([Lesson(r, n, np.ones(n.shape, bool)) for r, n in photos])
    assert classifier.classes == (1, 3)
    _tells_apart(classifier.probability(_with_stain(7)[0]), _with_stain(7)[1])


def test_a_network_takes_over_where_torch_is_there(
    desk: tuple[Workplace, MaskStore, States, Proposer], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("finicky.labeler.proposals.proposer._has_torch", lambda: True)
    monkeypatch.setattr("finicky.labeler.proposals.network.FIRST_STEPS", 4)
    monkeypatch.setattr("finicky.labeler.proposals.network.MORE_STEPS", 3)
    _, _, _, proposer = desk
    for photos, steps in ((3, 4), (4, 7)):
        _finish(desk, photos)
        proposer.photo_done()
        end = time.monotonic() + 60
        while proposer.standing()["training"]:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert proposer.standing()["learnt_from"] == photos
        assert proposer._network is not None
        assert proposer._network.steps == steps


def test_a_network_tells_classes_apart_and_goes_on_learning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("finicky.labeler.proposals.network._CROP", 64)
    from finicky.labeler.proposals.network import PixelNetwork

    photos = [_with_stain(seed) for seed in range(3)]
    lessons = [Lesson(rgb, ids, np.ones(ids.shape, bool)) for rgb, ids in photos]
    young = PixelNetwork((1, 3)).taught(lessons, steps=30)
    taught = young.taught(lessons, steps=90)
    assert (young.steps, taught.steps) == (30, 120)
    rgb, labels = _with_stain(7)
    before = young.probability(rgb)
    _tells_apart(taught.probability(rgb), labels)
    np.testing.assert_array_equal(young.probability(rgb), before)  # it is still who it was


def test_a_network_takes_photos_of_any_size() -> None:
    pytest.importorskip("torch")
    from finicky.labeler.proposals.network import PixelNetwork

    lessons = [Lesson(rgb[:33, :71], m[:33, :71], k[:33, :71]) for rgb, m, k in _raw(2)]
    network = PixelNetwork((1,)).taught(lessons, steps=2)
    for height, width in ((1, 1), (7, 300), (129, 64)):
        answer = network.probability(np.zeros((height, width, 3), np.uint8))
        assert answer.shape == (1, height, width)
        assert np.isfinite(answer).all()


def _raw(count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(lesson.rgb, lesson.labels, lesson.known) for lesson in _lessons(count)]


def _tells_apart(sure: np.ndarray, labels: np.ndarray) -> None:
    likeliest = np.array([1, 3])[sure.argmax(0)]
    found = sure.sum(0) > 0.5
    for number, least in ((1, 0.5), (3, 0.7)):
        mine, wanted = found & (likeliest == number), labels == number
        assert (mine & wanted).sum() / (mine | wanted).sum() > least


def test_rare_classes_count_as_much_as_common_ones() -> None:
    """A hundred times more pixels of one class must not teach that everything is that class."""
    torch = pytest.importorskip("torch")
    from finicky.labeler.proposals.network import _loss

    labels = torch.full((1, 10, 20), 2)
    labels[0, 0, :2] = 1
    calls_all_common = torch.zeros((1, 3, 10, 20))
    calls_all_common[:, 2] = 3
    calls_half = torch.zeros((1, 3, 10, 20))
    calls_half[:, 1:] = 3
    assert _loss(calls_all_common, labels) > _loss(calls_half, labels)
