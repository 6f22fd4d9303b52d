"""Tiles with their masks: the labels of `cut_tiles`, and pixels that belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finicky.data.folders import read_class_folders
from finicky.data.marked import cut_marked
from finicky.data.pairs import find_pairs, usable_pairs
from finicky.data.surfaces import write_surfaces
from finicky.data.tiles import cut_tiles
from finicky.images import read_image
from finicky.project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("surfaces")
    write_surfaces(root, 9, seed=3, width=256, height=192)
    return Project.open(root)


def test_tiles_are_those_of_cut_tiles_and_masks_tell_their_labels(
    project: Project, tmp_path: Path
) -> None:
    targets = project.classes.targets(None)
    pairs = usable_pairs(
        find_pairs(project.photos, project.masks).pairs, project.classes, targets
    ).usable
    splits = {p.key: (("train", "validation", "test")[i % 3], p.key) for i, p in enumerate(pairs)}
    about = {"classes": project.classes, "targets": targets, "splits": splits, "tile": 32}
    cut_tiles(pairs, tmp_path / "tiles", **about)  # type: ignore[arg-type]
    samples = read_class_folders(tmp_path / "tiles").samples
    expected = {(read_image(s.path).tobytes(), int(s.label == "crack")) for s in samples}
    found = cut_marked(pairs, stride=32, **about)  # type: ignore[arg-type]
    assert {(t.tobytes(), int(y)) for t, y in zip(found.tiles, found.labels, strict=True)} == (
        expected
    )
    share = (found.masks == 1).mean((1, 2))
    np.testing.assert_array_equal(share > 0, found.labels == 1)
    assert (share[found.labels == 1] >= 0.01).all()
    assert set(found.groups) <= {p.key for p in pairs}

    closer = cut_marked(pairs, stride=16, **about)  # type: ignore[arg-type]
    assert len(closer.labels) > 2 * len(found.labels)
    few = cut_marked(pairs, stride=16, per_photo=2, **about)  # type: ignore[arg-type]
    for group in np.unique(few.groups):
        for label in (0, 1):
            assert ((few.groups == group) & (few.labels == label)).sum() <= 2
    again = cut_marked(pairs, stride=16, per_photo=2, **about)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.tiles, few.tiles)


def test_no_photo_no_tile(project: Project) -> None:
    targets = project.classes.targets(None)
    found = cut_marked([], classes=project.classes, targets=targets, splits={}, tile=32, stride=32)
    assert found.tiles.shape == (0, 32, 32, 3)
    assert len(found.labels) == 0
