"""The smallest region that counts comes from the bundle, unless the user says another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finicky.edge import open_bundle
from finicky.edge.bundle import _thresholds
from finicky.edge.inspect import InspectSettings, inspect_photo, rule_for
from finicky.errors import UsageError


@pytest.fixture(scope="module")
def bundle():
    opened = open_bundle("crack-vgg16")
    return replace(opened, thresholds=replace(opened.thresholds, min_area_px=250.0))


def test_the_bundle_says_unless_the_user_does(bundle) -> None:
    assert rule_for(bundle).min_area == 250
    assert rule_for(bundle, InspectSettings(min_area=0)).min_area == 0
    assert rule_for(bundle, InspectSettings(min_area=7)).min_area == 7
    # Chosen for regions of the map, whose cells are finer than tiles.
    assert rule_for(bundle, InspectSettings(use_map=False)).min_area == 0
    with pytest.raises(UsageError, match="0 px or more, got -1"):
        rule_for(bundle, InspectSettings(min_area=-1))


def test_files_say_how_small_and_old_ones_say_nothing() -> None:
    entry = {"tile": 0.5, "map_high": 0.9, "map_low": 0.4}
    assert _thresholds(entry, has_map=True).min_area_px == 0
    assert _thresholds(entry | {"min_area_px": 120}, has_map=True).min_area_px == 120
    for bad in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="smallest area"):
            _thresholds(entry | {"min_area_px": bad}, has_map=True)


def test_smaller_regions_are_left_out_and_the_others_stay(bundle) -> None:
    photo = np.full((160, 160, 3), 150, np.uint8)
    photo += np.random.default_rng(0).integers(0, 12, photo.shape, dtype=np.uint8)
    photo[20:140, 60:66] = 30
    sizes = [
        sorted(r.area_px for r in inspect_photo(bundle, photo, rule).regions)
        for rule in (rule_for(bundle, InspectSettings(min_area=0)), rule_for(bundle))
    ]
    assert sizes[1] == [size for size in sizes[0] if size >= 250]
    assert sizes[1]
