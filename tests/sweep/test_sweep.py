"""The main job on generated surfaces: what it writes, resumes, refuses and chooses."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from finicky.data.surfaces import write_surfaces
from finicky.errors import DataError, UsageError
from finicky.evaluation import score_predictions
from finicky.files import write_sealed
from finicky.images import read_image
from finicky.project import Project
from finicky.pruning import restore
from finicky.selection import Constraints, Weights
from finicky.sweep import (
    COLUMNS,
    DecisionSettings,
    SweepSettings,
    parse_ratios,
    read_table,
    run_sweep,
    select_again,
)
from finicky.sweep.candidate import read_predictions
from finicky.sweep.decide import choose_row
from finicky.sweep.identity import candidate_name

SETTINGS = SweepSettings(
    backbone="alexnet",
    train=("frozen",),
    weights="random",
    keep_ratios=(0.1, 0.5),
    tile=64,
    head_seeds=2,
    latency_seconds=0.05,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("brücke 7") / "Fotos März"  # spaces and accents throughout
    write_surfaces(root, 16, seed=3, width=256, height=192)
    return Project.open(root)


@pytest.fixture(scope="module")
def finished(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ergebnis ä") / "run"
    run_sweep(project, out, SETTINGS)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_table_has_a_row_a_candidate_and_the_full_network_as_keep_one(finished: Path) -> None:
    with (finished / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert [float(r["keep_ratio"]) for r in rows] == [1, 0.5, 0.1]
    assert sum(int(r["selected"]) for r in rows) == 1
    full, half, tenth = rows
    assert int(full["params"]) == 2_469_696
    assert int(full["params"]) > int(half["params"]) > int(tenth["params"])
    assert int(full["macs"]) > int(half["macs"]) > int(tenth["macs"])
    assert all(0 <= float(r["balanced_accuracy"]) <= 1 for r in rows)
    assert float(full["latency_ratio"]) == 1
    assert float(tenth["latency_ratio"]) > 1


def test_table_is_what_the_predictions_say(finished: Path) -> None:
    """Oracle: metrics computed again from the stored predictions, seed by seed."""
    for row in read_table(finished / "results.csv"):
        found = read_predictions(finished / "candidates" / row["candidate"] / "predictions.npz")
        for split, prefix in (("test", ""), ("validation", "val_")):
            rows = found["splits"] == split
            single = [score_predictions(found["labels"][rows], p[rows]) for p in found["by_seed"]]
            for metric in ("balanced_accuracy", "f1", "auroc"):
                expected = np.mean([getattr(s, metric) for s in single])
                assert row[f"{prefix}{metric}"] == pytest.approx(expected, rel=1e-4)


def test_choice_looks_at_validation_only(run: Path) -> None:
    """Spoiling every test number changes nothing about the choice."""
    before = read_table(run / "results.csv")
    for number, row in enumerate(before):
        path = run / "candidates" / row["candidate"] / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        for found in metrics["test"].values():
            found["value"] = number / 10
        write_sealed(path, metrics)
    after = select_again(run, DecisionSettings())
    assert [r["selected"] for r in after.rows] == [r["selected"] for r in before]
    assert [r["score"] for r in after.rows] == pytest.approx([r["score"] for r in before], rel=1e-5)


def test_what_export_would_refuse_is_chosen_only_where_nothing_else_is_there(
    finished: Path,
) -> None:
    rows = read_table(finished / "results.csv")
    usual = choose_row(rows, DecisionSettings())
    other = choose_row(
        [row | {"exact": i != usual.index} for i, row in enumerate(rows)], DecisionSettings()
    )
    assert other.index != usual.index
    assert other.scores == usual.scores
    assert other.chosen.name == rows[other.index]["candidate"]
    none = choose_row([row | {"exact": False} for row in rows], DecisionSettings())
    assert none.index == usual.index


def test_photographs_never_cross_the_splits(finished: Path) -> None:
    with (finished / "tiles" / "tiles.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["photo"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    photos = json.loads((finished / "run.json").read_text(encoding="utf-8"))["photos"]
    assert all(splits.get(key, {"train"}) == {"train"} for key in photos["train"])


def test_selected_model_reproduces_its_predictions_from_tile_files(finished: Path) -> None:
    """From the file on disk on: decode, run the exported network, compare with the head's own."""
    chosen = next(r for r in read_table(finished / "results.csv") if r["selected"])
    found = read_predictions(finished / "selected" / "predictions.npz")
    session = onnxruntime.InferenceSession(
        str(finished / "selected" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    from finicky.data.folders import read_class_folders

    samples = read_class_folders(finished / "tiles").samples
    tiles = np.stack([read_image(s.path) for s in samples])
    probabilities = session.run(None, {"tiles": tiles})[0][:, 1]
    np.testing.assert_allclose(probabilities, found["deployed"], atol=1e-3)
    backbone, plan = restore(finished / "selected")
    assert plan.keep_ratio == chosen["keep_ratio"]
    assert sum(p.numel() for p in backbone.module.parameters()) == chosen["params"]


def test_second_start_redoes_nothing_and_changes_nothing(project: Project, run: Path) -> None:
    before = _state(run)
    results = (run / "results.csv").read_bytes()
    run_sweep(project, run, SETTINGS)
    after = _state(run)
    assert {k: v for k, v in after.items() if k.startswith("candidates")} == {
        k: v for k, v in before.items() if k.startswith("candidates")
    }
    assert (run / "results.csv").read_bytes() == results


def test_lost_or_damaged_candidate_alone_is_made_again(project: Project, run: Path) -> None:
    reference = read_table(run / "results.csv")
    before = _state(run)
    weights = run / "candidates" / "keep-0.5" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    run_sweep(project, run, SETTINGS)
    after = _state(run)
    assert after["candidates/keep-0.1/metrics.json"] == before["candidates/keep-0.1/metrics.json"]
    assert after["candidates/keep-0.5/metrics.json"] != before["candidates/keep-0.5/metrics.json"]
    for old, new in zip(reference, read_table(run / "results.csv"), strict=True):
        assert {k: v for k, v in old.items() if "latency" not in k and k != "score"} == {
            k: v for k, v in new.items() if "latency" not in k and k != "score"
        }


@pytest.mark.slow
def test_killed_run_goes_on_and_ends_with_the_same_numbers(
    project: Project, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    code = f"""
import os, signal
from pathlib import Path
from finicky.project import Project
from finicky.sweep import Execution, SweepSettings, run_sweep
def kill(stage, done, total):
    if "candidate 2" in stage and done == total:
        os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
project = Project.open(Path({str(project.root)!r}))
here = Execution(workers=1)  # others do not tell of every batch
run_sweep(project, Path({str(out)!r}), {SETTINGS!r}, execution=here, progress=kill)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode != 0
    assert (out / "candidates" / "keep-1" / "metrics.json").is_file()
    assert not (out / "candidates" / "keep-0.5" / "metrics.json").is_file()
    assert not (out / "results.csv").exists()
    run_sweep(project, out, SETTINGS)
    for old, new in zip(
        read_table(finished / "results.csv"), read_table(out / "results.csv"), strict=True
    ):
        for column in ("params", "macs", "balanced_accuracy", "val_f1", "auroc", "f1_low"):
            assert old[column] == new[column], column


def test_another_keep_ratio_joins_a_finished_run(project: Project, run: Path) -> None:
    before = _state(run)
    settings = SweepSettings(**{**SETTINGS.to_json(), "keep_ratios": (0.1, 0.25, 0.5)})
    run_sweep(project, run, settings)
    assert [r["keep_ratio"] for r in read_table(run / "results.csv")] == [1, 0.5, 0.25, 0.1]
    after = _state(run)
    kept = [k for k in before if k.startswith("candidates")]
    assert {k: after[k] for k in kept} == {k: before[k] for k in kept}


def test_leftovers_without_their_conditions_are_not_trusted(project: Project, run: Path) -> None:
    (run / "run.json").unlink()
    before = _state(run)
    run_sweep(project, run, SETTINGS)
    after = _state(run)
    assert all(after[k] != before[k] for k in before if k.endswith("metrics.json"))


def test_limit_that_nothing_keeps_does_not_cost_the_table(
    project: Project, tmp_path: Path, finished: Path
) -> None:
    decision = DecisionSettings(constraints=Constraints(max_size_mb=0.0001))
    with pytest.raises(DataError, match="nearest"):
        run_sweep(project, tmp_path / "run", SETTINGS, decision)
    found = read_table(tmp_path / "run" / "results.csv")
    assert len(found) == len(read_table(finished / "results.csv"))
    assert select_again(tmp_path / "run", DecisionSettings()).chosen["selected"] == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 1}, "seed"), ({"head_seeds": 3}, "head_seeds"), ({"tile": 80}, "tile")],
)
def test_run_under_other_conditions_is_refused_by_name(
    project: Project, run: Path, change: dict, named: str
) -> None:
    settings = SweepSettings(**{**SETTINGS.to_json(), **change})
    with pytest.raises(UsageError, match=rf"holds a run with other .*{named}.*--force"):
        run_sweep(project, run, settings)


def test_folder_with_other_files_is_left_alone(project: Project, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="holds other files and no run"):
        run_sweep(project, tmp_path, SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_no_file_of_a_run_is_a_pickle(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.is_file():
            head = path.read_bytes()[:2]
            assert head[:1] != b"\x80", path  # the first opcode of every pickle since protocol 2
            assert path.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".joblib"}


def test_limits_choose_another_candidate_or_say_which_is_nearest(run: Path) -> None:
    rows = read_table(run / "results.csv")
    smallest = min(rows, key=lambda r: r["params"])
    limit = smallest["size_bytes"] / 1e6 + 0.001
    result = select_again(
        run, DecisionSettings(weights=Weights(1, 0, 0), constraints=Constraints(max_size_mb=limit))
    )
    assert result.chosen["candidate"] == smallest["candidate"]
    assert (
        json.loads((run / "selected" / "choice.json").read_text())["candidate"]
        == (smallest["candidate"])
    )
    with pytest.raises(DataError, match=r"nearest|closest"):
        select_again(run, DecisionSettings(constraints=Constraints(max_size_mb=0.001)))


def test_choosing_again_leaves_every_number_as_it_was(run: Path) -> None:
    before = (run / "results.csv").read_text(encoding="utf-8")
    select_again(run, DecisionSettings())
    assert (run / "results.csv").read_text(encoding="utf-8") == before


def test_choosing_again_in_a_damaged_run_names_the_candidate(run: Path) -> None:
    (run / "candidates" / "keep-0.5" / "head.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"keep-0\.5 is damaged or incomplete"):
        select_again(run, DecisionSettings())


def test_full_network_alone_can_be_chosen(run: Path) -> None:
    result = select_again(run, DecisionSettings(constraints=Constraints(min_accuracy=0.0)))
    assert result.full["keep_ratio"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1,0.2", (0.1, 0.2)),
        ("0.05:0.2:0.05", (0.05, 0.1, 0.15, 0.2)),
        ("0.5", (0.5,)),
    ],
)
def test_ratios_as_people_type_them(text: str, expected: tuple[float, ...]) -> None:
    assert parse_ratios(text) == expected


@pytest.mark.parametrize("text", ["", "a", "0.1:0.2", "0.2:0.1:0.05", "0.1:0.2:0"])
def test_ratios_that_are_none_say_how_to_write_them(text: str) -> None:
    if text == "":
        with pytest.raises(UsageError, match="at least one keep ratio"):
            SweepSettings(keep_ratios=parse_ratios(text))
    else:
        with pytest.raises(UsageError, match=r"keep ratios are numbers in \(0, 1\], as 0\.05"):
            parse_ratios(text)


@pytest.mark.parametrize(
    ("name", "value"), [("keep_ratios", 0.1), ("train", "frozen"), ("targets", "crack")]
)
def test_one_value_where_several_are_taken_says_how_to_write_it(name: str, value: object) -> None:
    with pytest.raises(UsageError) as refused:
        SweepSettings(**{name: value})  # type: ignore[arg-type]
    assert f"write {name}=({value!r},)" in str(refused.value)


def test_candidate_names_sort_out_close_ratios() -> None:
    names = [candidate_name(r) for r in (1, 0.999999, 0.5, 0.05, 0.0125, 0.000001)]
    assert names == [
        "keep-1",
        "keep-0.999999",
        "keep-0.5",
        "keep-0.05",
        "keep-0.0125",
        "keep-0.000001",
    ]
    with pytest.raises(UsageError, match=r"at most 6 decimals, got 0\.9999999"):
        SweepSettings(keep_ratios=(0.9999999,))


def _state(root: Path) -> dict[str, tuple[int, int]]:
    return {
        p.relative_to(root).as_posix(): (p.stat().st_mtime_ns, p.stat().st_size)
        for p in root.rglob("*")
        if p.is_file()
    }
