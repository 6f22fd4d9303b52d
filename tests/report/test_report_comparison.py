import math

import numpy as np
import pytest

from finicky.errors import DataError
from finicky.report.comparison import Comparison, compare
from finicky.report.facts import read_run
from finicky.report.page import headline
from finicky.report.wording import METRIC_NAMES, SPACE
from finicky.sweep import DecisionSettings

PUBLISHED = DecisionSettings("published")
EQUAL = {1.0: 2.5, 0.1: 2.5}
CHOSEN_LOSES = {1.0: 4.0, 0.1: 1.0}
CHOSEN_GAINS = {1.0: 1.0, 0.1: 4.0}


def told(facts):
    return headline(facts, compare(facts)).replace(SPACE, " ")


def answer(root, candidate, flipped):
    """Overwrite a candidate's predictions with the truth, but for the ``flipped`` test tiles."""
    path = root / "candidates" / candidate / "predictions.npz"
    with np.load(path) as file:
        arrays = dict(file)
    truth = arrays["labels"].astype(float)
    rows = np.flatnonzero(arrays["splits"] == "test")[flipped]
    truth[rows] = 1 - truth[rows]
    arrays["by_seed"] = np.stack([truth, truth])
    np.savez(path, **arrays)


def test_difference_is_chosen_minus_full_by_hand(make_run):
    # 14 test photos of 12 tiles; the full network is right everywhere, the chosen one is wrong
    # on the first tile of every photo: accuracy 11/12, the same in every resample.
    root = make_run(skill=CHOSEN_LOSES, decision=PUBLISHED)
    answer(root, "keep-1", [])
    answer(root, "keep-0.1", np.arange(0, 14 * 12, 12))
    found = compare(read_run(root)).differences["accuracy"]
    assert found.value == pytest.approx(-1 / 12)
    assert found.low == pytest.approx(-1 / 12)
    assert found.high == pytest.approx(-1 / 12)


def test_values_are_those_of_the_table(usual_run):
    facts = read_run(usual_run)
    differences = compare(facts).differences
    for metric in METRIC_NAMES:
        expected = facts.chosen.number(metric) - facts.full.number(metric)
        assert differences[metric].value == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("skill", "verdict"),
    [(EQUAL, "not distinguishable"), (CHOSEN_LOSES, "worse"), (CHOSEN_GAINS, "better")],
)
def test_headline_wording_follows_the_interval(make_run, skill, verdict):
    # The published decision takes the smaller network whatever it loses here.
    facts = read_run(make_run(skill=skill, decision=PUBLISHED))
    assert facts.chosen.row["candidate"] == "keep-0.1"
    text = told(facts)
    assert f"for the full network: {verdict} (difference " in text
    others = {"better", "worse", "not distinguishable"} - {verdict}
    assert not any(other in text for other in others)


def test_one_test_photo_has_no_interval_and_no_verdict(make_run):
    photos = (("train", 4), ("validation", 4), ("test", 1))
    facts = read_run(make_run(photos=photos))
    comparison = compare(facts)
    assert comparison.verdict("balanced_accuracy") == "unknown"
    assert math.isnan(comparison.differences["balanced_accuracy"].low)
    assert "no interval: an interval needs at least 2 groups" in told(facts)


def test_predictions_of_other_tiles_are_refused(make_run):
    root = make_run(skill=EQUAL)
    path = root / "candidates" / "keep-1" / "predictions.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["labels"] = 1 - arrays["labels"]
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="not of the same tiles"):
        compare(read_run(root))


def test_comparison_is_told_with_its_interval(usual_run):
    comparison = compare(read_run(usual_run))
    assert isinstance(comparison, Comparison)
    text = comparison.told("f1").replace(SPACE, " ")
    assert text.startswith("difference ") and "points, 95 % interval " in text
