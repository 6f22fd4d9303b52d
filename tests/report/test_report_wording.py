import math

import pytest

from finicky.evaluation import Interval
from finicky.report import wording as w

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.01234, 3, "0.0123"),
        (2.126, 3, "2.13"),
        (13.44, 3, "13.4"),
        (150.4, 3, "150"),
        (14714.4, 3, "14714"),
        (9.996, 3, "10.0"),
        (9.96, 2, "10"),
        (0.996, 2, "1.0"),
        (1.0, 2, "1.0"),
        (0.044, 2, "0.044"),
        (0.0, 3, "0"),
    ],
)
def test_figure_has_so_many_significant_digits(value, digits, text):
    assert w.figure(value, digits) == text


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (w.percent, 0.8814, "88.1 %"),
        (w.percent, NAN, "–"),
        (w.small_percent, 0.0112, "1.1 %"),
        (w.small_percent, 0.00044, "0.044 %"),
        (w.small_percent, 0.268, "27 %"),
        (w.keep_percent, 0.1, "10 %"),
        (w.keep_percent, 0.025, "2.5 %"),
        (w.keep_percent, 0.07, "7 %"),
        (w.points, -0.0081, "−0.8"),
        (w.points, 0.0058, "+0.6"),
        (w.points, -0.0001, "−0.0"),
        (w.points, 0.0001, "+0.0"),
        (w.points, 0.0, "0.0"),
        (w.points, NAN, "–"),
        (w.count, 14714688.0, "14 714 688"),
        (w.short_count, 14714688.0, "14.7 million"),
        (w.short_count, 161870.0, "162 thousand"),
        (w.short_count, 999_800.0, "1.00 million"),
        (w.short_count, 870.0, "870"),
        (w.size, 58_900_000, "58.9 MB"),
        (w.size, 99_000, "99.0 kB"),
        (w.milliseconds, 13.37, "13.4 ms"),
        (w.milliseconds, NAN, "–"),
        (w.times, 91.4, "91×"),
        (w.times, 6.31, "6.3×"),
        (w.speed, 6.31, "6.3× faster"),
        (w.speed, 0.8, "1.2× slower"),
        (w.speed, 1.02, "equally fast"),
        (w.speed, NAN, "–"),
    ],
)
def test_numbers_as_people_read_them(function, value, text):
    assert function(value).replace(w.SPACE, " ") == text


def test_units_never_start_a_line():
    for told in (w.percent(0.5), w.size(5e6), w.milliseconds(2), w.short_count(2e6)):
        assert " " not in told


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.03, "better"),
        (-0.03, -0.001, "worse"),
        (-0.02, 0.006, "not distinguishable"),
        (0.0, 0.01, "not distinguishable"),
        (-0.01, 0.0, "not distinguishable"),
        (NAN, NAN, "unknown"),
    ],
)
def test_verdict_follows_the_interval(low, high, verdict):
    assert w.verdict_of(Interval(0.0, low, high, 2000)) == verdict


def test_lists_and_plurals():
    assert w.listed([]) == ""
    assert w.listed(["a"]) == "a"
    assert w.listed(["a", "b", "c"]) == "a, b and c"
    assert w.plural(1, "photo").replace(w.SPACE, " ") == "1 photo"
    assert w.plural(1200, "photo").replace(w.SPACE, " ") == "1 200 photos"


def test_an_interval_without_ends_says_so():
    assert w.span(0.84, 0.913) == "84.0 to 91.3"
    assert w.span(NAN, NAN) == "no interval"
