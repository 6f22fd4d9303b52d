"""8-bit bilinear resizing: values that OpenCV 4.x gives, written down once."""

from __future__ import annotations

import numpy as np

from finicky.importance.resize import resize_linear_u8


def test_halving_is_the_rounded_mean_of_four() -> None:
    mask = np.array([[0, 255, 0, 0], [0, 0, 0, 255], [255, 255, 0, 0], [255, 0, 0, 0]], np.uint8)
    assert resize_linear_u8(mask, width=2, height=2).tolist() == [[64, 64], [191, 0]]


def test_quartering_reads_the_two_middle_pixels_only() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[0, :] = 255  # a line that bilinear without anti-aliasing does not see
    assert resize_linear_u8(mask, width=1, height=1).tolist() == [[0]]
    mask[1, 1] = 255
    assert resize_linear_u8(mask, width=1, height=1).tolist() == [[64]]


def test_enlarging_interpolates_between_half_pixel_centres() -> None:
    line = np.array([[0, 100]], np.uint8)
    assert resize_linear_u8(line, width=4, height=1).tolist() == [[0, 25, 75, 100]]


def test_same_size_is_the_same_image_and_colours_stay_apart() -> None:
    photo = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert resize_linear_u8(photo, width=7, height=5) is photo
    small = resize_linear_u8(photo, width=3, height=4)
    for channel in range(3):
        plain = resize_linear_u8(np.ascontiguousarray(photo[..., channel]), width=3, height=4)
        np.testing.assert_array_equal(small[..., channel], plain)
