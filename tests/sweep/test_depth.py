"""At which depth a network sees the target: on evidence that knows the answer, and in a run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import finicky.sweep.run
from finicky.data.surfaces import write_surfaces
from finicky.errors import UnsupportedModelError, UsageError
from finicky.importance import Evidence, JointMoments, PooledTiles
from finicky.project import Project
from finicky.pruning import restore
from finicky.report import depth_lines, write_report
from finicky.sweep import SweepSettings, run_sweep
from finicky.sweep.depth import Stage, profile, promising, wanted_ends
from finicky.sweep.events import Event


def test_the_layer_that_tells_tiles_apart_is_found() -> None:
    stages = profile(_evidence(), ("early", "late"), {})
    assert [stage.layer for stage in stages] == ["early", "late"]
    assert stages[0].balanced_accuracy == 1
    assert stages[1].balanced_accuracy < 0.8
    assert stages[0].mask_correlation == pytest.approx(1)
    assert stages[1].mask_correlation < 0.5


def test_tiles_of_one_kind_give_no_profile() -> None:
    pooled = PooledTiles()
    pooled.note((1, 1), ("a", "b"))
    pooled.add("early", torch.rand(2, 3, 4, 4))
    evidence = Evidence(nn.Identity(), 8, pooled=pooled, joint={"early": JointMoments.empty(3)})
    assert profile(evidence, ("early",), {}) == []


def test_the_earliest_that_is_nearly_as_good_and_the_best_are_promising() -> None:
    stages = [Stage(n, 1, 0.0, q) for n, q in zip("abcd", (0.7, 0.89, 0.9, 0.8), strict=True)]
    assert promising(stages) == ("b", "c")
    assert promising([*stages, Stage("e", 1, 0.0, 0.95)]) == ()  # the last layer is the best
    assert promising([]) == ()


def test_depths_are_read() -> None:
    assert wanted_ends("full", (), "net") == ()
    assert wanted_ends("auto", "abc", "net") is None
    assert wanted_ends("all", "abc", "net") == ("a", "b")
    assert wanted_ends("b, c", "abc", "net") == ("b",)
    with pytest.raises(UsageError, match=r"net cannot end after 'x'; --depth takes full, auto"):
        wanted_ends("x", "abc", "net")
    with pytest.raises(UnsupportedModelError, match="no sequence of parts"):
        wanted_ends("auto", ("a",), "net")
    with pytest.raises(UsageError, match="one depth only"):
        SweepSettings(method="original", depth="auto")
    for depth in ("", ",", " , "):
        with pytest.raises(UsageError, match="takes full, auto, all or convolutions"):
            wanted_ends(depth, "abc", "net")
    with pytest.raises(UsageError, match="takes auto alone, got 'a,auto'"):
        wanted_ends("a,auto", "abc", "net")
    with pytest.raises(UsageError, match="auto needs the evidence of --criterion coverage, got l1"):
        SweepSettings(criterion="l1", depth="auto")


def test_a_depth_that_the_network_lacks_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    write_surfaces(tmp_path / "p", 3, seed=3, width=192, height=128)
    told: list[Event] = []
    settings = SweepSettings(backbone="alexnet", weights="random", depth="conv9")
    with pytest.raises(UsageError, match="alexnet cannot end after 'conv9'"):
        run_sweep(
            Project.open(tmp_path / "p"), tmp_path / "runs" / "a", settings, listen=told.append
        )
    assert not (tmp_path / "runs").exists() and not told


@pytest.mark.slow
def test_a_run_tries_networks_that_end_early_and_tells_texture(tmp_path: Path) -> None:
    write_surfaces(tmp_path / "p", 14, seed=3, width=256, height=192)
    settings = SweepSettings(
        backbone="alexnet",
        train=("frozen",),
        weights="random",
        repair="none",
        keep_ratios=(0.2,),
        tile=64,
        tiles_per_photo=3,
        head_seeds=1,
        latency_seconds=0,
        maps=False,
        depth="conv2",
    )
    out = tmp_path / "run"
    told: list[Event] = []
    project = Project.open(tmp_path / "p")
    result = run_sweep(project, out, settings, listen=told.append)
    assert (told[0].kind, told[0].facts["candidates"]) == ("started", 3)
    with (out / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["candidate"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["keep-1", "keep-0.2", "keep-0.2-to-conv2"]
    assert [row["depth"] for row in rows.values()] == ["", "", "conv2"]
    assert int(rows["keep-0.2-to-conv2"]["params"]) < int(rows["keep-0.2"]["params"])
    shorter, plan = restore(out / "candidates" / "keep-0.2-to-conv2")
    assert list(plan.kept) == ["conv1", "conv2"]
    assert shorter.module(torch.zeros(1, 3, 64, 64)).shape[1] == len(plan.kept["conv2"])
    seen = json.loads((out / "depth.json").read_text(encoding="utf-8"))
    assert [stage["layer"] for stage in seen["stages"]] == [f"conv{n}" for n in range(1, 6)]
    _goes_on_with_the_scores_it_has(project, out, settings)
    seen["texture_val_balanced_accuracy"] = 1.0
    (out / "depth.json").write_text(json.dumps(seen), encoding="utf-8")
    lines = depth_lines(out, result.chosen, result.full)
    assert "statistics of a tile alone reach balanced accuracy 1.000" in lines[0]
    assert "20&nbsp;% up to conv2" in write_report(out).read_text(encoding="utf-8").replace(
        "\N{NO-BREAK SPACE}", "&nbsp;"
    )


def _goes_on_with_the_scores_it_has(project: Project, out: Path, settings: SweepSettings) -> None:
    """What is missing is made of importance.npz; the photos are not ranked on again."""
    names = ["keep-0.2", "keep-0.2-to-conv2"]
    files = [out / "candidates" / name / "model.safetensors" for name in names]
    before = [file.read_bytes() for file in files]
    for file in files:
        shutil.rmtree(file.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finicky.sweep.run, "rank", None)
        run_sweep(project, out, settings)
    assert [file.read_bytes() for file in files] == before


def _evidence() -> Evidence:
    """An early layer whose first channel is the mask, and a late one that answers by chance."""
    random = torch.Generator().manual_seed(0)
    masks = torch.zeros(24, 4, 4)
    masks[::2, 1] = 1
    pooled, joint = PooledTiles(), {n: JointMoments.empty(3) for n in ("early", "late")}
    pooled.note((1, 0) * 12, tuple(str(n // 2) for n in range(24)))
    noise = torch.rand(24, 3, 4, 4, generator=random)
    early = noise.clone()
    early[:, 0] = masks
    for name, maps in (("early", early), ("late", noise)):
        pooled.add(name, maps)
        joint[name].add(maps, masks, None)
    return Evidence(nn.Identity(), 8, pooled=pooled, joint=joint)
