"""The logistic head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from finicky.errors import DataError
from finicky.training import C_GRID, LogisticHead, refit_head, train_head
from finicky.training.head import MOST_GAIN


def test_equals_scikit_learn_on_standardised_features() -> None:
    features, labels, _ = _rows(200, 6)
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-3, max_iter=300)
    model.fit(scaler.transform(features), labels)
    expected = model.predict_proba(scaler.transform(features))[:, 1]
    found = refit_head(features, labels, C=0.1).probabilities(features)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_more_features_than_rows_give_the_same_model_as_plain_fitting() -> None:
    """The rotation onto N axes changes nothing: the L2 penalty does not see it."""
    features, labels, _ = _rows(40, 300)
    scaled = StandardScaler().fit_transform(features)
    model = LogisticRegression(C=0.01, class_weight="balanced", tol=1e-8, max_iter=5000)
    expected = model.fit(scaled, labels).predict_proba(scaled)[:, 1]
    found = refit_head(features, labels, C=0.01).probabilities(features)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_c_comes_from_the_original_grid() -> None:
    features, labels, groups = _rows(120, 4)
    head = train_head(features, labels, groups)
    assert head.C in C_GRID
    assert C_GRID == (0.001, 0.01, 0.1, 1, 10, 100, 1000, 10_000, 100_000)
    assert 0 < head.cv_loss < np.log(2)


def test_noise_gets_the_strongest_penalty() -> None:
    random = np.random.default_rng(0)
    labels = np.tile([0, 1], 40)
    head = train_head(random.normal(size=(80, 50)), labels, np.arange(80) // 4)
    assert head.C <= 0.01


def test_folds_never_split_a_photo() -> None:
    """A feature that only names the photo helps within a photo and nowhere else."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    labels = np.repeat(np.tile([0, 1], 10), 10)
    photo_names = np.eye(20)[groups] + random.normal(0, 0.01, (200, 20))
    honest = train_head(photo_names, labels, groups)
    assert honest.cv_loss > 0.6  # no better than chance, log 2 = 0.69
    leaking = train_head(photo_names, labels, np.arange(200))
    assert leaking.cv_loss < 0.1


def test_constant_features_do_no_harm() -> None:
    features, labels, groups = _rows(100, 3)
    padded = np.hstack([features, np.full((100, 2), 7.0)])
    head = train_head(padded, labels, groups)
    assert np.isfinite(head.weight).all()
    np.testing.assert_allclose(
        head.probabilities(padded),
        train_head(features, labels, groups).probabilities(features),
        atol=1e-4,
    )


def test_head_on_hardly_varying_features_does_not_multiply_rounding() -> None:
    """As after a hard cut: features that vary by a millionth of their mean, or a ten thousandth."""
    random = np.random.default_rng(0)
    labels = np.tile([0, 1], 60)
    variation = np.array([1e-6, 1e-4, 1e-4, 3e-4])
    features = 5 * (1 + variation * (random.normal(size=(120, 4)) + labels[:, None]))
    head = train_head(features, labels, np.arange(120) // 4)
    assert head.gain(features) <= MOST_GAIN
    off = features * (1 + 1e-6 * random.normal(size=features.shape))
    before, after = (f @ head.weight.astype(float) + head.bias for f in (features, off))
    assert np.abs(before - after).max() <= 2e-5
    # What it replaces: the same data with the strength that suits it, and rounding decides.
    sharp = refit_head(features, labels, C=1000)
    assert sharp.gain(features) > 10 * MOST_GAIN


def test_head_on_nothing_but_hardly_varying_features_still_tells_the_classes_apart() -> None:
    """As of VGG16 cut plainly to a twentieth; counting them less left one answer to all."""
    random = np.random.default_rng(0)
    labels = np.tile([0, 1], 60)
    features = 5 * (1 + 1e-4 * (random.normal(size=(120, 3)) + 3 * labels[:, None]))
    head = train_head(features, labels, np.arange(120) // 4)
    assert head.gain(features) <= MOST_GAIN
    off = features * (1 + 1e-7 * random.normal(size=features.shape))
    for rows in (features, off):
        assert np.mean((head.probabilities(rows) > 0.5) == labels) > 0.98
    before, after = (f @ head.weight.astype(float) + head.bias for f in (features, off))
    assert np.abs(before - after).max() <= 1e-5


def test_shrunk_head_keeps_order_and_classes() -> None:
    head = LogisticHead(np.array([300.0, -300.0], np.float32), 0.25, 1.0, 0.0)
    features = np.array([[5.0, 4.99], [5.0, 5.0], [5.0, 5.01]])
    small = head.shrunk(features)
    assert small.gain(features) == pytest.approx(0.999 * MOST_GAIN, rel=1e-5)
    assert list(np.sign(features @ small.weight + small.bias)) == [1, 1, -1]
    sharp = LogisticHead(np.array([1.0], np.float32), 0.0, 1.0, 0.0)
    np.testing.assert_array_equal(sharp.shrunk(np.array([[2.0]])).weight, sharp.weight)


def test_gain_counts_by_hand() -> None:
    head = LogisticHead(np.array([3.0, -4.0], np.float32), 1.0, 1.0, 0.0)
    # Parts 3 and -4 are 7 together; logit 0 counts as 1.
    assert head.gain(np.array([[1.0, 1.0]])) == pytest.approx(7)
    # Parts 6 and 0, logit 7.
    assert head.gain(np.array([[2.0, 0.0]])) == pytest.approx(6 / 7)
    # Logit 301 is P = 1 whatever rounding does; the other row's part 3 is over 69.
    assert head.gain(np.array([[100.0, 0.0], [1.0, 0.0]])) == pytest.approx(3 / 69)


def test_one_photo_a_class_is_too_few() -> None:
    features, labels, _ = _rows(20, 3)
    with pytest.raises(DataError, match="both classes from at least 2 photos each"):
        train_head(features, labels, labels)


def test_saved_head_is_the_same_head(tmp_path: Path) -> None:
    features, labels, groups = _rows(60, 5)
    head = train_head(features, labels, groups)
    head.save(tmp_path / "head.safetensors")
    found = LogisticHead.load(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(found.weight, head.weight)
    assert (found.C, found.cv_loss) == (head.C, head.cv_loss)
    np.testing.assert_allclose(
        found.probabilities(features), head.probabilities(features), rtol=1e-6
    )


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"])
def test_damaged_head_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no head of ours"):
        LogisticHead.load(path)


def _rows(count: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = (np.arange(count) % 3 == 0).astype(int)
    features = random.normal(3, 5, (count, length))
    features[:, 0] += 6 * labels
    return features, labels, np.arange(count) // 5
