"""Maps that are flat in the file are told as probabilities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finicky.data.surfaces import write_surfaces
from finicky.edge import InspectSettings, inspect_photo, open_bundle
from finicky.edge.inspect import rule_for
from finicky.flatness import flatten_probability, restore_probabilities, restore_probability
from finicky.images import read_image


@pytest.mark.parametrize("factor", [1, 8, 64, 1024])
def test_there_and_back(factor: float) -> None:
    for value in (0.02, 0.5, 0.97):
        assert restore_probability(flatten_probability(value, factor), factor) == pytest.approx(
            value, abs=1e-6
        )
    ends = restore_probabilities(np.array([0, 0.5, 1], np.float32), factor)
    assert ends.tolist() == [0, 0.5, 1]
    assert ends.dtype == np.float32


def test_a_flat_file_marks_the_same_and_tells_probabilities(tmp_path: Path) -> None:
    write_surfaces(tmp_path, 3, seed=5, width=256, height=192)
    bundle = open_bundle("crack-efficientnet-lite0")
    own = bundle.thresholds
    assert own.map_flattened == 64
    assert (own.map_high, own.map_low) == pytest.approx((0.99, 0.2))
    as_it_lies = replace(
        bundle,
        thresholds=replace(
            own,
            map_flattened=1.0,
            map_high=flatten_probability(0.99, 64),
            map_low=flatten_probability(0.2, 64),
        ),
    )
    marked, side = 0, bundle.tile_px
    for path in sorted((tmp_path / "photos").iterdir()):
        photo = read_image(path)
        found, flat = inspect_photo(bundle, photo), inspect_photo(as_it_lies, photo)
        assert (found.labels != flat.labels).mean() < 1e-3
        assert flat.max_score < 0.6
        tile = photo[None, :side, :side]
        _, restored = bundle.run(tile)
        _, raw = bundle.session().run(tile)
        assert restored is not None
        assert raw is not None
        assert np.abs(raw - 0.5).max() < 0.1
        assert (restored > own.map_low).mean() == (raw > flatten_probability(0.2, 64)).mean()
        if found.regions:
            marked += 1
            assert found.max_score >= 0.99
    assert marked


def test_thresholds_asked_for_are_probabilities() -> None:
    bundle = open_bundle("crack-vgg16")
    rule = rule_for(bundle, InspectSettings(high=0.5))
    assert rule.high == 0.5
    assert rule.low == pytest.approx(0.3 * 0.5 / 0.95)
