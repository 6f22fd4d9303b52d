"""Criteria against each other: cells, resuming, the page, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from finicky.data.surfaces import write_surfaces
from finicky.errors import UsageError
from finicky.project import Project
from finicky.report.criteria import area, write_comparison
from finicky.sweep import SweepSettings
from finicky.sweep.compare import CompareSettings, compare, read_answers
from finicky.sweep.texture import describe_tiles

SETTINGS = CompareSettings(
    SweepSettings(
        backbone="alexnet", weights="random", repair="none", round_to=1, tile=64, tiles_per_photo=3
    ),
    ("coverage", "mask+class", "random", "l1", "taylor", "unpruned", "texture"),
    (0.1, 0.4),
    (0,),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("compare") / "Fotos März"
    write_surfaces(root, 14, seed=3, width=256, height=192)
    return Project.open(root)


@pytest.mark.slow
def test_every_cell_has_a_row_and_a_second_start_measures_nothing(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = compare(project, tmp_path / "out", SETTINGS)
    assert len(rows) == 5 * 2 + 2
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [r["criterion"] for r in table if r["masks"] == "1"] == [
        *["coverage"] * 2,
        *["mask+class"] * 2,
    ]
    params = {(r["criterion"], float(r["keep_ratio"])): int(r["params"]) for r in table}
    assert params["l1", 0.1] == params["random", 0.1] < params["unpruned", 1]
    assert all(0 <= float(r["balanced_accuracy"]) <= 1 for r in table)
    page = write_comparison(tmp_path / "out", SETTINGS, rows).read_text(encoding="utf-8")
    assert "coverage against each other criterion" in page
    assert "| mask+class* |" in page
    answers = read_answers(tmp_path / "out", "l1", 0.1, 0)
    assert len(answers["labels"]) == len(answers["probabilities"]) == len(answers["groups"])
    monkeypatch.setattr("finicky.sweep.compare._Bench", None)  # would fail if it were called
    assert compare(project, tmp_path / "out", SETTINGS) == rows
    other = CompareSettings(SweepSettings(backbone="alexnet", weights="random", tile=96))
    with pytest.raises(UsageError, match=r"comparison with other .*tile"):
        compare(project, tmp_path / "out", other)


def test_unknown_criterion_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match=r"'l3'.*Did you mean l"):
        CompareSettings(criteria=("l3",))


def test_area_is_the_mean_height_over_the_logarithm() -> None:
    assert area([0.1, 0.01, 1.0], [0.7, 0.5, 0.9]) == pytest.approx(0.7)
    assert area([0.1], [0.6]) == 0.6


def test_texture_statistics_tell_dark_from_light_and_rough_from_smooth() -> None:
    random = np.random.default_rng(0)
    smooth = np.full((1, 32, 32, 3), 100, np.uint8)
    rough = random.integers(0, 200, (1, 32, 32, 3)).astype(np.uint8)
    found = describe_tiles(np.concatenate([smooth, smooth // 2, rough]))
    assert found.shape[0] == 3
    assert np.isfinite(found).all()
    assert not np.allclose(found[0], found[1])
    # the spread of intensity stands after the histogram and the percentiles
    assert found[0, 24] == 0 < found[2, 24]
