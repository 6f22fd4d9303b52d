"""`finicky.Sweep`: iterate, stop, go on, open; the best, the front, a table."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest
import torch

import finicky
from finicky.data.surfaces import write_surfaces
from finicky.errors import MissingDependencyError, UsageError
from finicky.files import read_json
from finicky.selection import Constraints
from finicky.sweep import COLUMNS, DecisionSettings, Execution, SearchSettings, Sweep

OPTIONS = {
    "backbone": "alexnet",
    "weights": "random",
    "repair": "none",
    "train": ["frozen"],
    "tile": 64,
    "head_seeds": 1,
    "latency_seconds": 0.02,
    "maps": False,
    "keep_ratios": [0.3, 0.1],
    "tiles_per_photo": 3,
}
HERE = Execution(workers=1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("face") / "project"
    write_surfaces(root, 10, seed=3, width=192, height=128)
    return root


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What `finished` saw, candidate by candidate."""
    return []


@pytest.fixture(scope="module")
def finished(project: Path, told: list[str]) -> Sweep:
    out = project / "runs" / "whole"
    sweep = Sweep(str(project), out, execution=HERE, **OPTIONS)
    assert sweep.candidates == () and sweep.best is None and sweep.pareto == ()
    assert not out.exists()  # nothing is done before it is asked for
    for candidate in sweep:
        told.append(candidate.name)
        assert sweep.best is not None and not sweep.finished
        assert (candidate.folder / "metrics.json").is_file()
        assert candidate["score"] is None and 0 <= candidate["val_f1"] <= 1
    return sweep


def test_candidates_come_as_they_finish_and_one_is_best_at_the_end(
    finished: Sweep, told: list[str]
) -> None:
    assert told == ["keep-1", "keep-0.3", "keep-0.1"]
    assert finished.finished and finished.best is not None
    assert finished.best["selected"] == 1 and finished.best["latency_p50_ms"] > 0
    assert "keep-0.1" in {c.name for c in finished.pareto}  # nothing is smaller
    assert [c.name for c in finished] == told  # once more: nothing is computed
    assert f"finished, 3 candidates, best {finished.best.name}" in repr(finished)
    module = finished.candidates[-1].load().module
    assert module(torch.zeros(1, 3, 64, 64)).shape[1] < 256


def test_breaking_off_stops_and_iterating_again_goes_on(project: Path, tmp_path: Path) -> None:
    sweep = Sweep(project, tmp_path / "run", execution=HERE, **OPTIONS)
    for candidate in sweep:
        if candidate.name == "keep-0.3":
            break
    assert not sweep.finished and len(sweep) == 2
    opened = Sweep.open(tmp_path / "run", project, execution=HERE)  # nobody holds the folder
    assert [c.name for c in opened.candidates] == ["keep-1", "keep-0.3"]
    assert opened.best is not None and not opened.finished
    before = (tmp_path / "run/candidates/keep-0.3/metrics.json").stat().st_mtime_ns
    assert [c.name for c in opened] == ["keep-1", "keep-0.3", "keep-0.1"]
    assert (tmp_path / "run/candidates/keep-0.3/metrics.json").stat().st_mtime_ns == before
    assert opened.finished
    assert Sweep.open(tmp_path / "run").finished


def test_a_finished_run_folder_is_opened_with_all_its_numbers(finished: Sweep) -> None:
    opened = Sweep.open(finished.folder)
    assert opened.finished
    assert [str(c) for c in opened.candidates] == [str(c) for c in finished.candidates]
    assert opened.best == finished.best
    assert [c.name for c in opened.pareto] == [c.name for c in finished.pareto]
    assert opened.candidates[0]["latency_ratio"] == 1
    with pytest.raises(KeyError, match="Did you mean f1"):
        opened.candidates[0]["f11"]
    small = opened.select(DecisionSettings(constraints=Constraints(max_size_mb=0.2)))
    assert small.best is not None and small.best.name == "keep-0.1"


def test_choosing_again_without_iterating_first_tells_what_the_folder_holds(
    project: Path, finished: Sweep, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    sweep = Sweep(project, run, execution=HERE, **OPTIONS)
    sweep.select(DecisionSettings(constraints=Constraints(max_size_mb=0.2)))
    assert sweep.finished and sweep.best is not None
    assert sweep.best.name == "keep-0.1" == read_json(run / "selected/choice.json")["candidate"]


def test_what_is_no_run_or_cannot_go_on_is_said(
    project: Path, finished: Sweep, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"holds no run\.json"):
        Sweep.open(tmp_path)
    with pytest.raises(UsageError, match="no setting named 'back_bone'"):
        Sweep(project, tmp_path / "run", back_bone="alexnet")
    half = Path(shutil.copytree(finished.folder, tmp_path / "half"))
    journal = (half / "journal.jsonl").read_text().splitlines(keepends=True)
    (half / "journal.jsonl").write_text("".join(x for x in journal if '"done"' not in x))
    opened = Sweep.open(half)
    assert len(opened.candidates) == 3 and not opened.finished
    with pytest.raises(UsageError, match="project is not known"):
        next(iter(opened))


def test_without_ratios_it_searches_within_a_budget(project: Path, tmp_path: Path) -> None:
    few = SearchSettings(
        grid=(0.05, 0.1, 0.3, 0.6), halved=1, evaluated=1, rounds=0, most_glances=3
    )
    options = {k: v for k, v in OPTIONS.items() if k != "keep_ratios"}
    sweep = Sweep(
        project,
        tmp_path / "run",
        search=few,
        budgets="params=20%",
        execution=HERE,
        **options,
    ).run()
    assert (sweep.folder / "search.json").is_file()
    assert sweep.best is not None and sweep.best["params"] <= 0.2 * sweep.candidates[0]["params"]
    assert Sweep.open(sweep.folder).best == sweep.best


def test_table_for_pandas(finished: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        finished.to_pandas()
    monkeypatch.undo()
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = finished.to_pandas()
    assert list(frame.columns) == list(COLUMNS) and len(frame) == 3
    assert frame["params"].tolist() == [c["params"] for c in finished.candidates]
    assert str(frame["params"].dtype) == "Int64" and str(frame["f1"].dtype) == "Float64"
    assert frame.loc[frame["selected"] == 1, "candidate"].item() == finished.best.name  # type: ignore[union-attr]
    assert math.isfinite(frame["latency_p50_ms"].sum())


def test_it_is_exported() -> None:
    assert finicky.Sweep is Sweep
