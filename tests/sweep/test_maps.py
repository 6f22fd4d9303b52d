"""The map of the chosen candidate: in the run, in its one file, and after choosing again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from finicky.cli.runs import show
from finicky.data.crops import read_crops
from finicky.data.folders import read_class_folders
from finicky.data.surfaces import write_surfaces
from finicky.errors import DataError
from finicky.export import Classifier, check_parity, read_metadata
from finicky.files import sha256_file
from finicky.images import read_image
from finicky.project import Project
from finicky.pruning import restore
from finicky.report import write_report
from finicky.sweep import (
    DecisionSettings,
    RunFolder,
    SweepSettings,
    read_table,
    run_sweep,
    select_again,
)
from finicky.sweep.maps import make_map
from finicky.training import LogisticHead, PixelHead

SETTINGS = SweepSettings(
    backbone="alexnet",
    train=("frozen",),
    weights="random", keep_ratios=(0.1,), tile=64, head_seeds=2,
    latency_seconds=0, repair="none",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maps") / "Fotos März"
    write_surfaces(root, 12, seed=3, width=256, height=192)
    run_sweep(Project.open(root), root.parent / "run", SETTINGS)
    shutil.rmtree(root)  # nothing below needs the project
    return root.parent / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_selected_model_gives_probabilities_and_map(finished: Path) -> None:
    path = finished / "selected" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [out.name for out in session.get_outputs()] == ["probabilities", "map"]
    facts = json.loads((finished / "selected" / "map.json").read_text(encoding="utf-8"))
    for count in (1, 3):
        tiles = np.zeros((count, 64, 64, 3), np.uint8)
        probabilities, found = session.run(None, {"tiles": tiles})
        side = round(64 / facts["map_px"])
        assert (probabilities.shape, found.shape) == ((count, 2), (count, side, side))
        assert found.dtype == np.float32
        assert 0 <= found.min() <= found.max() <= 1


def test_metadata_says_what_the_map_is_and_from_where_on_it_counts(finished: Path) -> None:
    note = read_metadata(finished / "selected" / "model.onnx")
    facts = json.loads((finished / "selected" / "map.json").read_text(encoding="utf-8"))
    assert (note["schema"], note["task"], note["map_px"]) == (2, "classify+map", facts["map_px"])
    assert note["target"] == {"id": 1, "name": "crack", "colour": "#D55E00"}
    limits = note["thresholds"]
    assert (limits["map_high"], limits["map_low"]) == (facts["map_high"], facts["map_low"])
    assert 0 < limits["map_low"] <= limits["map_high"] < 1
    assert 0 < limits["tile"] < 1
    assert facts["validation"]["f1"] > 0
    assert facts["test_f1_interval"][0] <= facts["test"]["f1"] <= facts["test_f1_interval"][1]


def test_file_agrees_with_pytorch_in_both_outputs(finished: Path) -> None:
    classifier, tiles = _classifier(finished), _tiles(finished)
    parity = check_parity(classifier, finished / "selected" / "model.onnx", tiles)
    assert parity.within(1e-4)
    assert parity.map_difference is not None
    assert parity.map_difference <= 1e-5


def test_parity_notices_another_map(finished: Path) -> None:
    """Negative controls: a cell weighed a little otherwise, and a file without the map."""
    classifier, tiles = _classifier(finished), _tiles(finished)
    assert classifier.pixels is not None
    with torch.no_grad():
        classifier.pixels.output.bias += 0.05  # type: ignore[operator]
    assert not check_parity(classifier, finished / "selected" / "model.onnx", tiles).within(1e-4)
    name = json.loads((finished / "selected" / "choice.json").read_text())["candidate"]
    without = finished / "candidates" / name / "model.onnx"
    assert not check_parity(_classifier(finished), without, tiles).within(1e-4)


def test_time_is_told_to_be_without_the_map(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = select_again(run, DecisionSettings())
    timed = {"latency_p50_ms": 2.0, "latency_ratio": 3.0}
    show(replace(result, chosen=result.chosen | timed, full=result.full | timed), as_json=False)
    words = "3.0 times faster (batch 1, one thread; without the map, which `finicky export` times)"
    assert words in capsys.readouterr().out


def test_each_candidate_has_its_map_trained_once(run: Path) -> None:
    names = {str(row["candidate"]) for row in read_table(run / "results.csv")}
    first = json.loads((run / "selected" / "choice.json").read_text(encoding="utf-8"))["candidate"]
    (other,) = names - {first}
    assert not (run / "candidates" / other / "map").exists()
    made = make_map(RunFolder(run), other)
    assert made.facts is not None
    files = [run / "candidates" / name / "map" / "model.onnx" for name in (first, other)]
    stamps = [path.stat().st_mtime_ns for path in files]
    select_again(run, DecisionSettings())
    assert make_map(RunFolder(run), other).facts == made.facts
    assert [path.stat().st_mtime_ns for path in files] == stamps


def test_damaged_map_is_made_again(run: Path) -> None:
    name = json.loads((run / "selected" / "choice.json").read_text())["candidate"]
    head = run / "candidates" / name / "map" / "pixel_head.safetensors"
    before = sha256_file(head)
    head.write_bytes(b"")
    select_again(run, DecisionSettings())
    assert sha256_file(head) == before
    assert sha256_file(run / "selected" / "pixel_head.safetensors") == before


def test_report_tells_how_well_the_map_follows_the_masks(run: Path) -> None:
    facts = json.loads((run / "selected" / "map.json").read_text(encoding="utf-8"))
    page = write_report(run).read_text(encoding="utf-8")
    assert f"{facts['validation']['f1']:.3f} on validation photos" in page
    shutil.rmtree(run / "crops")
    select_again(run, DecisionSettings())
    assert "none: the run was made without maps" in write_report(run).read_text(encoding="utf-8")


def test_run_without_crops_says_why_there_is_no_map(run: Path) -> None:
    shutil.rmtree(run / "crops")
    result = select_again(run, DecisionSettings())
    assert result.map.reason == "the run was made without maps, or before there were any"
    assert "map_px" not in read_metadata(run / "selected" / "model.onnx")
    assert not (run / "selected" / "map.json").exists()


def test_selected_files_are_those_that_its_metrics_name(finished: Path) -> None:
    metrics = json.loads((finished / "selected" / "metrics.json").read_text(encoding="utf-8"))
    for name, digest in metrics["files"].items():
        assert sha256_file(finished / "selected" / name) == digest


def test_crops_keep_the_splits_and_damage_is_named(run: Path) -> None:
    keys = {split: {c.key for c in read_crops(run / "crops", split)} for split in _SPLITS}
    assert all(keys.values())
    assert not keys["train"] & keys["validation"]
    assert not keys["train"] & keys["test"]
    crop = read_crops(run / "crops", "train")[0]
    assert crop.mask.shape == crop.photo.shape[:2] == (192, 256)
    assert set(np.unique(crop.mask)) <= {0, 1, 255}
    (run / "crops" / "crops.csv").write_text("photo\nx\n", encoding="utf-8")
    with pytest.raises(DataError, match="is not a table of crops"):
        read_crops(run / "crops", "train")


_SPLITS = ("train", "validation", "test")


def _classifier(run: Path) -> Classifier:
    selected = run / "selected"
    return Classifier(
        restore(selected)[0],
        "mean+max",
        LogisticHead.load(selected / "head.safetensors"),
        PixelHead.load(selected / "pixel_head.safetensors"),
    )


def _tiles(run: Path) -> np.ndarray:
    return np.stack([read_image(s.path) for s in read_class_folders(run / "tiles").samples[:32]])
