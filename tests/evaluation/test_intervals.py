import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from finicky.errors import DataError, ShapeError, UsageError
from finicky.evaluation import intervals
from finicky.evaluation.intervals import bootstrap_difference, bootstrap_metrics
from finicky.evaluation.metrics import METRICS, score_predictions


def predictions(samples=120, groups=30, seed=0, seeds=None):
    """Labels, probabilities with ties, and group names of a plausible small test split."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, samples)
    shape = samples if seeds is None else (seeds, samples)
    probabilities = np.clip(0.5 + 0.25 * (labels - 0.5) + rng.normal(0, 0.25, shape), 0, 1)
    return labels, probabilities.round(2), np.array([f"photo {i % groups}" for i in range(samples)])


def by_scikit_learn(labels, probabilities, weights):
    predicted = probabilities >= 0.5
    kwargs = {"sample_weight": weights}
    return [
        oracle.accuracy_score(labels, predicted, **kwargs),
        oracle.balanced_accuracy_score(labels, predicted, **kwargs),
        oracle.precision_score(labels, predicted, **kwargs),
        oracle.recall_score(labels, predicted, **kwargs),
        oracle.f1_score(labels, predicted, **kwargs),
        oracle.roc_auc_score(labels, probabilities, **kwargs),
    ]


def test_two_groups_give_the_interval_counted_on_paper():
    # Photo a: both right. Photo b: both wrong. A resample is aa, ab, ba or bb: accuracy 1, 1/2,
    # 1/2, 0, so with 2000 resamples a quarter lies at either end.
    found = bootstrap_metrics([1, 0, 1, 0], [0.9, 0.1, 0.2, 0.8], ["a", "a", "b", "b"])
    accuracy = found["accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high) == (0.5, 0, 1)
    assert (accuracy.draws, accuracy.dropped, accuracy.reason) == (2000, 0, "")
    half = bootstrap_metrics([1, 0, 1, 0], [0.9, 0.1, 0.2, 0.8], list("aabb"), level=0.4)
    assert (half["accuracy"].low, half["accuracy"].high) == (0.5, 0.5)


def test_values_are_the_plain_metrics():
    labels, probabilities, groups = predictions()
    found = bootstrap_metrics(labels, probabilities, groups, resamples=10)
    plain = score_predictions(labels, probabilities).as_dict()
    assert {name: i.value for name, i in found.items()} == pytest.approx(plain, abs=1e-14)


def test_intervals_equal_a_naive_loop_with_scikit_learn():
    labels, probabilities, groups = predictions(seeds=2)
    names, group_of = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(7)
    draws = []
    for _ in range(40):
        drawn = rng.integers(len(names), size=len(names))
        weights = np.bincount(drawn, minlength=len(names))[group_of]
        draws.append(np.mean([by_scikit_learn(labels, p, weights) for p in probabilities], axis=0))
    expected = np.quantile(draws, [0.025, 0.975], axis=0)
    found = bootstrap_metrics(labels, probabilities, groups, resamples=40, seed=7)
    np.testing.assert_allclose([found[m].low for m in METRICS], expected[0], rtol=1e-12)
    np.testing.assert_allclose([found[m].high for m in METRICS], expected[1], rtol=1e-12)


def test_cutting_the_work_in_blocks_changes_no_number(monkeypatch):
    case = predictions(groups=29)
    whole = bootstrap_metrics(*case, resamples=101)
    monkeypatch.setattr(intervals, "BLOCK_BYTES", 8 * 120 * 7)
    assert bootstrap_metrics(*case, resamples=101) == whole


def test_same_seed_same_interval_other_seed_another():
    case = predictions()
    assert bootstrap_metrics(*case, resamples=50) == bootstrap_metrics(*case, resamples=50)
    assert bootstrap_metrics(*case, resamples=50) != bootstrap_metrics(*case, resamples=50, seed=1)


def test_several_trainings_are_averaged_inside_each_resample():
    labels, probabilities, groups = predictions(seeds=3)
    found = bootstrap_metrics(labels, probabilities, groups, resamples=20)
    alone = [score_predictions(labels, row).f1 for row in probabilities]
    assert found["f1"].value == pytest.approx(np.mean(alone))
    tripled = np.stack([probabilities[0]] * 3)
    once = bootstrap_metrics(labels, probabilities[0], groups, resamples=20)
    again = bootstrap_metrics(labels, tripled, groups, resamples=20)
    for name in METRICS:
        assert again[name].low == pytest.approx(once[name].low, abs=1e-14)


def test_identical_predictions_differ_by_exactly_nothing():
    labels, probabilities, groups = predictions()
    found = bootstrap_difference(labels, probabilities, probabilities, groups)
    assert {(i.value, i.low, i.high, i.reason) for i in found.values()} == {(0, 0, 0, "")}


def test_difference_is_a_minus_b_and_changes_sign_when_swapped():
    labels, worse, groups = predictions()
    better = np.where(labels == 1, 0.9, 0.1)
    found = bootstrap_difference(labels, better, worse, groups)
    swapped = bootstrap_difference(labels, worse, better, groups)
    for name in METRICS:
        assert found[name].low > 0
        assert swapped[name].low == pytest.approx(-found[name].high)


def test_pairing_makes_the_difference_narrower_than_two_separate_intervals():
    labels, a, groups = predictions(samples=300)
    b = a.copy()
    b[:6] = 1 - b[:6]
    paired = bootstrap_difference(labels, a, b, groups)["accuracy"]
    apart = bootstrap_metrics(labels, a, groups)["accuracy"]
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_one_group_gives_a_value_but_no_interval():
    found = bootstrap_metrics([1, 0], [0.9, 0.1], ["only", "only"])["f1"]
    assert found.value == 1
    assert math.isnan(found.low) and math.isnan(found.high)
    assert "at least 2 groups" in found.reason


def test_resamples_without_a_class_are_dropped_and_counted():
    # One of four photos holds the cracks: (3/4)^4 = 32 % of the resamples miss it.
    found = bootstrap_metrics([1, 0, 0, 0], [0.9, 0.8, 0.2, 0.1], list("abcd"), resamples=4000)
    assert found["recall"].dropped == pytest.approx(0.316 * 4000, rel=0.1)
    assert found["recall"].draws + found["recall"].dropped == 4000
    assert found["accuracy"].dropped == 0


def test_mostly_undefined_resamples_give_no_interval():
    # Each of three trainings predicts a positive in one photo only, so precision needs all three
    # photos: 3!/27 = 22 % of the resamples.
    labels, groups = [1, 0, 1, 0, 1, 0], list("aabbcc")
    probabilities = [[0.9 * (g == photo) for g in groups] for photo in "abc"]
    found = bootstrap_metrics(labels, probabilities, groups)["precision"]
    assert found.value == 0.5
    assert found.dropped == pytest.approx(0.78 * 2000, rel=0.05)
    assert math.isnan(found.low) and math.isnan(found.high)
    assert f"undefined in {found.dropped} of 2000 resamples" in found.reason


def test_metric_undefined_in_the_data_says_so():
    found = bootstrap_metrics([0, 0, 0], [0.1, 0.2, 0.3], [1, 2, 3], resamples=10)
    assert math.isnan(found["recall"].value) and math.isnan(found["recall"].low)
    assert "undefined" in found["recall"].reason


def test_no_error_seen_warns_that_the_interval_has_no_width():
    found = bootstrap_metrics([0, 1] * 20, [0.1, 0.9] * 20, range(40))["accuracy"]
    assert (found.low, found.high) == (1, 1)
    assert "7.5%" in found.reason


def test_intervals_cover_the_truth_by_group_and_not_by_sample():
    # All 8 tiles of a photo share its difficulty: 24 photos, right with probability 0.9 or 0.5.
    rng = np.random.default_rng(3)
    truth, groups = 0.7, np.repeat(np.arange(24), 8)
    covered = {"group": 0, "sample": 0}
    for trial in range(120):
        photo = rng.choice([0.5, 0.9], 24) + rng.normal(0, 1e-9, 24)
        right = rng.random(24 * 8) < photo[groups]
        labels = np.arange(24 * 8) % 2
        probabilities = np.where(right, labels, 1 - labels).astype(float)
        for name, by in (("group", groups), ("sample", np.arange(24 * 8))):
            i = bootstrap_metrics(labels, probabilities, by, resamples=300, seed=trial)["accuracy"]
            covered[name] += i.low <= truth <= i.high
    # 95 % of 120 is 114; a binomial count of that rate is below 105 less than once in 500.
    assert covered["group"] >= 105
    assert covered["sample"] < 100


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"groups": ["a"]}, ShapeError, r"\(2,\) like labels, got \(1,\)"),
        ({"resamples": 0}, UsageError, "at least 1, got 0"),
        ({"level": 95}, UsageError, r"\(0, 1\), got 95"),
        ({"probabilities": [0.1, 7]}, DataError, r"got 7\.0"),
    ],
)
def test_bad_arguments_are_one_clear_error(change, error, text):
    arguments = {"labels": [0, 1], "probabilities": [0.1, 0.9], "groups": ["a", "b"]} | change
    with pytest.raises(error, match=text):
        bootstrap_metrics(**arguments)
