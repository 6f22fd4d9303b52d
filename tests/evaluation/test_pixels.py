"""Pixel F1 and IoU: figures that can be counted on paper."""

from __future__ import annotations

import numpy as np
import pytest

from finicky.evaluation.pixels import (
    STEPS,
    THRESHOLDS,
    f1_interval,
    hysteresis,
    pixel_curve,
    pixel_quality,
    sum_curves,
)


def _column(x: int, *, rows: int = 10, width: int = 20) -> np.ndarray:
    mask = np.zeros((rows, width), np.uint8)
    mask[:, x] = 1
    return mask


def test_a_line_two_pixels_beside_counts_as_found_but_not_for_iou() -> None:
    quality = pixel_quality([_column(7).astype(bool)], [_column(5)])
    assert (quality.f1, quality.iou) == (1.0, 0.0)


def test_a_line_three_pixels_beside_is_wrong() -> None:
    quality = pixel_quality([_column(8).astype(bool)], [_column(5)])
    assert (quality.precision, quality.recall, quality.f1) == (0.0, 0.0, 0.0)


def test_half_of_a_line_and_as_much_beside() -> None:
    found = np.zeros((12, 20), bool)
    found[:6, 5] = True  # of 12 marked pixels 6 are found, and 2 more lie within 2 px of them
    found[:6, 15] = True  # 6 of 12 found pixels are wrong
    quality = pixel_quality([found], [_column(5, rows=12)])
    assert quality.precision == 0.5
    assert quality.recall == pytest.approx(8 / 12)
    assert quality.iou == pytest.approx(6 / 18)


def test_curve_agrees_with_thresholding_first() -> None:
    random = np.random.default_rng(0)
    values, mask = random.random((40, 50)), (random.random((40, 50)) > 0.9).astype(np.uint8)
    curve = pixel_curve(values, mask)
    for index in (0, 30, 100, 170, STEPS - 1):
        single = pixel_quality([values >= THRESHOLDS[index]], [mask])
        assert curve.f1[index] == pytest.approx(single.f1)
        assert curve.iou[index] == pytest.approx(single.iou)


def test_ignored_pixels_count_for_nothing() -> None:
    mask = _column(5)
    found = mask == 1
    found[:, 15] = True
    mask[:, 15] = 255
    assert pixel_quality([found], [mask]).f1 == 1.0


def test_empty_masks_and_empty_maps_are_no_division_by_zero() -> None:
    nothing = np.zeros((8, 8))
    assert pixel_curve(nothing, nothing.astype(np.uint8)).f1.max() == 0
    curves = [pixel_curve(nothing, nothing.astype(np.uint8))]
    assert f1_interval(curves, 100) == (0.0, 0.0)


def test_photos_are_taken_together_not_averaged() -> None:
    right, wrong = _column(5), _column(15)
    curve = sum_curves(
        [pixel_curve(right.astype(float), right), pixel_curve(right.astype(float), wrong)]
    )
    assert curve.f1[100] == pytest.approx(0.5)


def test_hysteresis_keeps_weak_pixels_only_beside_strong_ones() -> None:
    values = np.array([[0.9, 0.5, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.0, 0.0]])
    found = hysteresis(values, 0.8, 0.4)
    assert found.sum() == 5  # a diagonal step joins both halves
    values[1, 2] = 0
    assert hysteresis(values, 0.8, 0.4).sum() == 2
    assert hysteresis(values, 0.95, 0.4).sum() == 0
