"""Candidates of several kinds in one sweep: frozen, fine-tuned, from scratch."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from finicky.cli.app import app
from finicky.data.folders import read_class_folders
from finicky.data.surfaces import write_surfaces
from finicky.errors import UsageError
from finicky.images import read_image
from finicky.project import Project
from finicky.pruning import restore
from finicky.report import write_report
from finicky.sweep import RunFolder, SearchSettings, SweepSettings, run_sweep
from finicky.sweep.after_search import count_few, train_few
from finicky.sweep.candidate import read_predictions
from finicky.sweep.events import Event
from finicky.sweep.executors import Outcome
from finicky.sweep.identity import Candidate, candidate_name
from finicky.sweep.maps import make_map
from finicky.sweep.trained import MASK_HEAD, checkpoint_of
from finicky.sweep.training_kinds import parse_kinds, parse_time
from finicky.training import PixelHead

SETTINGS = SweepSettings(
    backbone="alexnet",
    weights="random",
    keep_ratios=(0.1,),
    tile=64,
    head_seeds=2,
    latency_seconds=0,
    repair="none",
    train=("frozen", "finetune", "scratch"),
    train_time_s=4,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("trained")
    write_surfaces(root, 10, seed=3, width=192, height=128)
    return Project.open(root)


@pytest.fixture(scope="module")
def finished(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "run"
    run_sweep(project, out, SETTINGS)
    return out


def test_every_kind_is_a_candidate_and_one_is_chosen(finished: Path) -> None:
    with (finished / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["candidate"], r["train"]) for r in rows] == [
        ("keep-1", "frozen"),
        ("keep-0.1", "frozen"),
        ("keep-0.1-finetune", "finetune"),
        ("keep-0.1-scratch", "scratch"),
    ]
    assert len({r["params"] for r in rows[1:]}) == 1
    assert len({r["val_auroc"] for r in rows}) > 2
    assert sum(int(r["selected"]) for r in rows) == 1
    assert rows[2]["f1_seed_std"] == ""


@pytest.mark.parametrize("kind", ["finetune", "scratch"])
def test_exported_network_is_the_trained_one(finished: Path, kind: str) -> None:
    """Oracle: the ONNX file on tile files against the stored answers; and the folder restored."""
    here = finished / "candidates" / candidate_name(0.1, kind)
    found = read_predictions(here / "predictions.npz")
    samples = read_class_folders(finished / "tiles").samples[:24]
    tiles = np.stack([read_image(s.path) for s in samples])
    session = onnxruntime.InferenceSession(here / "model.onnx")
    answers = session.run(None, {session.get_inputs()[0].name: tiles})[0][:, 1]
    np.testing.assert_allclose(answers, found["deployed"][:24], atol=1e-4)
    backbone, plan = restore(here)
    assert plan.keep_ratio == 0.1
    assert ("scratch" in backbone.provenance.source) == (kind == "scratch")
    metrics = json.loads((here / "metrics.json").read_text(encoding="utf-8"))
    training = metrics["training"]
    assert training["masks"] is True
    assert training["seconds"] < 8  # half of 4 s for each, and the epoch that was under way
    curve = training["validation_brier"]
    assert min(curve) <= curve[training["best_epoch"]] <= min(curve) + 0.15
    assert PixelHead.load(here / MASK_HEAD).size == 64
    assert not checkpoint_of(here).parent.exists()
    text = (here / "plan.json").read_text(encoding="utf-8")
    assert "fine-tuned" in text or "scratch" in text


def test_head_that_the_network_was_trained_with_competes_for_the_map(finished: Path) -> None:
    found = make_map(RunFolder(finished), "keep-0.1-finetune")
    assert found.facts is not None, found.reason
    assert any("(photo)" not in taps for taps in found.facts["tried"])


def test_more_kinds_add_to_a_run(project: Project, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = {p: p.stat().st_mtime_ns for p in run.glob("candidates/*/metrics.json")}
    for name in ("keep-0.1-scratch",):
        shutil.rmtree(run / "candidates" / name)
    fewer = replace(SETTINGS, train=("frozen", "finetune"))
    result = run_sweep(project, run, fewer)
    assert [r["candidate"] for r in result.rows] == ["keep-1", "keep-0.1", "keep-0.1-finetune"]
    after = {p: p.stat().st_mtime_ns for p in run.glob("candidates/*/metrics.json")}
    assert all(before[p] == when for p, when in after.items())


def test_kinds_and_times_as_people_type_them() -> None:
    assert parse_kinds("scratch, frozen") == ("frozen", "scratch")
    assert parse_kinds("all") == ("frozen", "finetune", "scratch")
    assert parse_time("10min") == 600
    assert parse_time("1.5h") == 5400
    assert parse_time("90 s") == 90
    with pytest.raises(UsageError, match=r"no training named 'finetuned'.*finetune"):
        parse_kinds("frozen,finetuned")
    for text in ("10", "0s", "-1min", "soon", ""):
        with pytest.raises(UsageError, match="as 10min, got"):
            parse_time(text)
    with pytest.raises(UsageError, match="at least one training"):
        parse_kinds(",")
    with pytest.raises(UsageError, match="frozen trains none"):
        SweepSettings(train=("frozen",), train_time_s=60)
    with pytest.raises(UsageError, match="original trains none"):
        SweepSettings(method="original", train_time_s=60)
    assert parse_kinds("auto") == ("auto",)
    with pytest.raises(UsageError, match="name no other kind"):
        parse_kinds("auto,scratch")


def test_left_open_few_small_networks_are_trained(project: Project, tmp_path: Path) -> None:
    settings = replace(SETTINGS, train=("auto",), keep_ratios=(0.1, 0.15, 0.5), train_time_s=3)
    heard: list[Event] = []
    result = run_sweep(project, tmp_path / "run", settings, listen=heard.append)
    told = [event.facts for event in heard if event.kind == "candidate"]
    assert [(facts["done"], facts["total"]) for facts in told] == [(n, 7) for n in range(1, 8)]
    assert all(facts["sure"] for facts in told) and heard[0].facts["candidates"] == 7
    names = [str(row["candidate"]) for row in result.rows]
    assert names[:4] == ["keep-1", "keep-0.5", "keep-0.15", "keep-0.1"]
    assert names[4:6] == ["keep-0.1-finetune", "keep-0.1-scratch"]
    assert names[6] in ("keep-0.15-finetune", "keep-0.15-scratch")
    better = max(result.rows[4:6], key=lambda row: float(str(row["val_f1"])))
    assert names[6].endswith(str(better["train"]))
    assert len(names) == 4 + count_few(settings.keep_ratios) == 7
    write_report(tmp_path / "run")


def test_what_is_trained_where_nobody_said() -> None:
    asked: list[str] = []

    def evaluate(candidates: Sequence[Candidate]) -> list[Outcome]:
        asked.extend(candidate.name for candidate in candidates)
        told = {"finetune": None, "scratch": 0.4}
        return [Outcome(c, {"validation": {"f1": {"value": told[c.train]}}}) for c in candidates]

    assert [o.candidate.name for o in train_few((1.0, 0.5, 0.3), evaluate)] == asked
    assert asked == ["keep-0.3-finetune", "keep-0.3-scratch"]
    asked.clear()
    list(train_few(SearchSettings().grid, evaluate))
    assert asked == ["keep-0.1-finetune", "keep-0.1-scratch", "keep-0.2-scratch"]
    assert list(train_few((1.0,), evaluate)) == []


def test_misuse_ends_before_any_work(tmp_path: Path, project: Project) -> None:
    out = tmp_path / "run"
    command = ["run", str(project.root), "--out", str(out), "--train", "tune"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 or isinstance(result.exception, UsageError)
    assert not out.exists()


def test_report_tells_the_kinds_apart(finished: Path) -> None:
    page = write_report(finished).read_text(encoding="utf-8")
    for words in ("10\u00a0%, fine-tuned", "10\u00a0%, from scratch"):
        assert words in page
    assert "nan" not in page.split("<svg")[0]


def test_interrupted_training_goes_on_where_it_was(project: Project, tmp_path: Path) -> None:
    settings = replace(SETTINGS, train=("finetune",), train_time_s=None)
    seen: list[tuple[int, int]] = []

    def stop(stage: str, done: int, total: int) -> None:
        if "finetune" in stage and total == 480:
            seen.append((done, total))
            if done == 45:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(project, tmp_path / "run", settings, progress=stop)
    assert seen[0] == (1, 480)
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(project, tmp_path / "run", settings, progress=stop)
    assert seen[0] == (41, 480)  # after the second epoch of 20 steps
