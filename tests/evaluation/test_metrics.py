import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from finicky.errors import DataError, ShapeError, UsageError
from finicky.evaluation.metrics import METRICS, confusion, score_predictions

LABELS = [1, 1, 1, 0, 0]
PROBABILITIES = [0.9, 0.6, 0.2, 0.7, 0.1]


def test_confusion_counts_each_cell():
    matrix = confusion(LABELS, PROBABILITIES, 0.5)
    assert (matrix.tn, matrix.fp, matrix.fn, matrix.tp) == (1, 1, 1, 2)


def test_metrics_match_the_count_on_paper():
    found = score_predictions(LABELS, PROBABILITIES)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    # Of 6 pairs, 0.9 beats both negatives, 0.6 and 0.2 beat only 0.1.
    assert found.auroc == pytest.approx(4 / 6)


def test_a_probability_at_the_threshold_is_positive():
    assert confusion([1, 0], [0.5, 0.49], 0.5).tp == 1
    assert confusion([1, 0], [0.0, 0.0], 0.0).fp == 1


def test_tied_probabilities_count_half_in_auroc():
    assert score_predictions([1, 0, 0], [0.4, 0.4, 0.1]).auroc == pytest.approx(0.75)


def test_threshold_moves_counts_but_not_auroc():
    low, high = (score_predictions(LABELS, PROBABILITIES, threshold=t) for t in (0.15, 0.65))
    assert low.recall == 1
    assert high.recall == pytest.approx(1 / 3)
    assert low.auroc == high.auroc


def test_nothing_predicted_positive_leaves_precision_undefined_and_f1_zero():
    found = score_predictions([1, 0], [0.2, 0.1])
    assert math.isnan(found.precision)
    assert (found.recall, found.f1, found.auroc) == (0, 0, 1)


def test_one_class_leaves_undefined_what_needs_two():
    only_negative = score_predictions([0, 0], [0.2, 0.1])
    undefined = {name for name, value in only_negative.as_dict().items() if math.isnan(value)}
    assert undefined == {"balanced_accuracy", "precision", "recall", "f1", "auroc"}
    assert only_negative.accuracy == 1
    only_positive = score_predictions([1, 1], [0.9, 0.1])
    assert math.isnan(only_positive.auroc) and math.isnan(only_positive.balanced_accuracy)
    assert (only_positive.precision, only_positive.recall) == (1, 0.5)


samples = st.lists(
    # A coarse grid of probabilities makes ties, the threshold among them, likely.
    st.tuples(st.integers(0, 1), st.one_of(st.sampled_from([0, 0.25, 0.5, 1]), st.floats(0, 1))),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(samples, st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]))
def test_metrics_equal_scikit_learn(pairs, threshold):
    labels, probabilities = (np.array(column) for column in zip(*pairs, strict=True))
    found = score_predictions(labels, probabilities, threshold=threshold)
    predicted = probabilities >= threshold
    two_classes = len(set(labels)) == 2
    expected = {
        "accuracy": oracle.accuracy_score(labels, predicted),
        "precision": oracle.precision_score(labels, predicted, zero_division=np.nan),
        "recall": oracle.recall_score(labels, predicted, zero_division=np.nan),
        "f1": oracle.f1_score(labels, predicted, zero_division=np.nan),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, predicted)
        if two_classes
        else np.nan,
        "auroc": oracle.roc_auc_score(labels, probabilities) if two_classes else np.nan,
    }
    assert tuple(found.as_dict()) == METRICS
    for name, value in found.as_dict().items():
        assert value == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


@settings(max_examples=50, deadline=None)
@given(samples, st.randoms(use_true_random=False))
def test_order_of_samples_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    before, after = (score_predictions(*zip(*p, strict=True)) for p in (pairs, shuffled))
    np.testing.assert_allclose(
        list(before.as_dict().values()), list(after.as_dict().values()), rtol=1e-14
    )


@pytest.mark.parametrize(
    ("labels", "probabilities", "error", "text"),
    [
        ([0, 1], [0.5], ShapeError, r"\(2,\) and \(1,\)"),
        ([0, 1], [[0.1, 0.2], [0.3, 0.4]], ShapeError, r"\(N,\), got \(2, 2\)"),
        ([], [], DataError, "at least one, got none"),
        ([0, 2], [0.5, 0.5], DataError, "got .*2"),
        ([0, 1], [0.5, 1.5], DataError, r"got 1\.5 \(1 of 2"),
        ([0, 1], [0.5, float("nan")], DataError, "got nan"),
        (["crack", "none"], [0.5, 0.5], DataError, "crack"),
    ],
)
def test_bad_predictions_are_one_clear_error(labels, probabilities, error, text):
    with warnings.catch_warnings(), pytest.raises(error, match=text):
        confusion(labels, probabilities)


def test_threshold_outside_its_range_is_named():
    with pytest.raises(UsageError, match=r"\[0, 1\], got 50"):
        score_predictions([0, 1], [0.1, 0.9], threshold=50)
