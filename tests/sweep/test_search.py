"""The search over keep ratios: against tables, and on real networks, stopped and gone on with."""

from __future__ import annotations

import errno
import json
import math
import random
import shutil
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import finicky.sweep.glance
import finicky.sweep.run
from finicky.data.surfaces import write_surfaces
from finicky.errors import DataError, StorageError
from finicky.progress import silent
from finicky.project import Project
from finicky.report import write_report
from finicky.report.cautions import cautions
from finicky.report.comparison import compare
from finicky.report.facts import read_run
from finicky.sweep import (
    Execution,
    SearchSettings,
    SweepSettings,
    read_table,
    run_sweep,
)
from finicky.sweep.search import Look, Search, simulate

GRID = SearchSettings().grid
MACS = {ratio: ratio * ratio for ratio in (*GRID, 1.0)}
SETTINGS = SweepSettings(
    backbone="alexnet",
    train=("frozen",),
    weights="random",
    repair="none",
    tile=64,
    head_seeds=1,
    latency_seconds=0,
    maps=False,
)
HERE = Execution(workers=1)  # others do not tell of every batch, nor can they be tampered with
FEW = SearchSettings(grid=(0.1, 0.2, 0.3, 0.4), halved=2, evaluated=1, rounds=1, most_glances=4)


class _Table:
    """A made-up sweep: quality rises with the ratio; glances see a little less of it."""

    def __init__(self, bend: float, *, wiggle: float = 0.0, noise: float = 0.0, seed: int = 0):
        draws = np.random.default_rng(seed)
        self.quality = {
            ratio: 0.55 + 0.35 * (1 - math.exp(-ratio / bend)) + wiggle * draws.normal()
            for ratio in MACS
        }
        self.seen = {ratio: 0.96 * q + noise * draws.normal() for ratio, q in self.quality.items()}
        self.asked: list[tuple[float, float]] = []

    def score(self, ratio: float, quality: float) -> float:
        return quality / self.quality[1.0] + 0.4 * (1 - MACS[ratio])

    def look(self, ratio: float, share: float) -> Look:
        self.asked.append((ratio, share))
        quality = self.quality[ratio] if share == 1 else self.seen[ratio]
        return Look(ratio, share, self.score(ratio, quality), quality)

    def best(self) -> float:
        return max(self.score(ratio, quality) for ratio, quality in self.quality.items())


@pytest.mark.parametrize("bend", [0.02, 0.05, 0.1, 0.2, 0.5])
def test_best_of_a_smooth_curve_is_found_with_a_tenth_of_the_work(bend: float) -> None:
    table = _Table(bend)
    search = Search(SearchSettings(), MACS)
    looks, steps = simulate(search, table.look)
    assert search.trail(looks) == steps
    found = max(look.score for look in looks if look.share == 1)
    assert found >= table.best() - 0.003
    assert sum(look.share == 1 for look in looks) <= 10
    assert len(looks) <= 60 and len(set(table.asked)) == len(table.asked)  # nothing twice
    assert "is the choice" in steps[-1].why


def test_choice_is_near_the_best_where_the_curve_wiggles() -> None:
    """Of 40 drawn sweeps nine in ten end within 0.01 of the best of a hundred."""
    near = 0
    for seed in range(40):
        table = _Table(0.12, wiggle=0.005, noise=0.01, seed=seed)
        looks, _ = simulate(Search(SearchSettings(), MACS), table.look)
        near += max(look.score for look in looks if look.share == 1) >= table.best() - 0.01
    assert near >= 36


def test_decisions_follow_from_the_looks_whatever_their_order() -> None:
    table = _Table(0.1, wiggle=0.01, noise=0.01)
    search = Search(SearchSettings(), MACS)
    looks, steps = simulate(search, table.look)
    again: list[str] = []
    for number in range(len(looks) + 1):
        some = looks[:number]
        random.Random(number).shuffle(some)
        step = search.step(some)
        again.append(step.why)
        assert not set(step.ratios) & {k.keep_ratio for k in some if k.share == step.share}
    assert [why for why, _ in groupby(again)] == [why for why, _ in groupby(s.why for s in steps)]


def test_nothing_is_evaluated_in_full_that_was_not_looked_at_longer() -> None:
    table = _Table(0.12, wiggle=0.005, noise=0.015, seed=1)
    _, steps = simulate(Search(SearchSettings(), MACS), table.look)
    assert any("might lead by" in step.why for step in steps)  # gaps were filled
    full = [ratio for ratio, share in table.asked if share == 1 and ratio < 1]
    for ratio in full:
        before = table.asked[: table.asked.index((ratio, 1.0))]
        assert (ratio, 0.5) in before


def test_search_says_when_more_might_be_left() -> None:
    """Glances that scatter widely never exclude anything: the search ends by its limit."""
    table = _Table(0.1, noise=0.2)
    _, steps = simulate(Search(SearchSettings(), MACS), table.look)
    assert steps[-1].last
    assert "might still lead by more than the tolerance" in steps[-1].why


def test_ratios_that_failed_or_have_no_score_are_passed_over() -> None:
    table = _Table(0.1)

    def look(ratio: float, share: float) -> Look:
        bad = 0.05 < ratio < 0.3
        return Look(ratio, share, math.nan, math.nan) if bad else table.look(ratio, share)

    looks, steps = simulate(Search(SearchSettings(), MACS), look)
    assert steps[-1].last
    best = max(
        (k for k in looks if k.share == 1 and not math.isnan(k.score)), key=lambda k: k.score
    )
    assert not 0.05 < best.keep_ratio < 0.3


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("search") / "project"
    write_surfaces(root, 10, seed=3, width=192, height=128)
    return Project.open(root)


@pytest.fixture(scope="module")
def searched(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("searched") / "run"
    run_sweep(project, out, SETTINGS, search=FEW)
    return out


def _stable(run: Path) -> tuple[str, bytes]:
    return (run / "results.csv").read_text(), (run / "search.json").read_bytes()


def test_search_evaluates_few_and_tells_why(searched: Path) -> None:
    rows = read_table(searched / "results.csv")
    ratios = [row["keep_ratio"] for row in rows]
    assert ratios[0] == 1 and ratios == sorted(ratios, reverse=True)
    assert 2 <= len(rows) <= 5
    told = json.loads((searched / "search.json").read_text())
    assert told["steps"][0]["why"].startswith("the unpruned network")
    assert told["steps"][0]["ratios"] == [1.0]
    full = [one["keep_ratio"] for one in told["seen"] if one["share"] == 1]
    assert sorted(full, reverse=True) == ratios
    page = write_report(searched).read_text(encoding="utf-8")
    assert "not every keep ratio was evaluated" in page
    assert "It ended because" in page and "a coarse grid" in page


def test_report_knows_what_was_glanced_at(searched: Path, tmp_path: Path) -> None:
    """The chosen network is the smallest that was evaluated, not the smallest that was seen."""
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    facts = read_run(run)
    told = json.loads((run / "search.json").read_text())
    below = [s["keep_ratio"] for s in told["seen"] if s["keep_ratio"] < 1]
    smallest = min(row["keep_ratio"] for row in facts.rows)
    assert (chosen := facts.chosen.number("keep_ratio")) == smallest
    words = " ".join(cautions(facts, compare(facts)))
    assert ("smallest that was tried" in words) == (chosen == min(below))
    told["seen"].append({**told["seen"][-1], "keep_ratio": 0.01, "share": 0.25})
    (run / "search.json").write_text(json.dumps(told))
    assert "smallest that was tried" not in " ".join(cautions(facts, compare(facts)))
    (run / "search.json").unlink()
    assert "smallest that was tried" in " ".join(cautions(facts, compare(facts)))


def test_a_table_that_names_its_ratios_is_no_search_any_more(
    project: Project, searched: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    run_sweep(project, run, replace(SETTINGS, keep_ratios=(0.1, 0.2)))
    assert not (run / "search.json").exists()
    assert "not every keep ratio" not in write_report(run).read_text(encoding="utf-8")


def test_glances_side_by_side_tell_the_same(
    project: Project, searched: Path, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    out = tmp_path / "run"
    run_sweep(
        project,
        out,
        SETTINGS,
        execution=Execution(workers=2),
        search=FEW,
        progress=lambda *each: told.append(each),
    )
    assert _stable(out) == _stable(searched)
    glances = [each for each in told if each[0] == "glances"]
    assert glances[0] == ("glances", 0, 4) and ("glances", 4, 4) in glances


@pytest.mark.parametrize("after", ["glance 2 of", "candidate 2 of"])
def test_stopped_search_goes_on_as_if_it_had_not(
    project: Project, searched: Path, tmp_path: Path, after: str
) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        del done, total
        if after in stage:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(project, out, SETTINGS, execution=HERE, search=FEW, progress=stop)
    before = (out / "journal.jsonl").read_text().count('"glanced"')
    assert before
    run_sweep(project, out, SETTINGS, search=FEW, progress=silent)
    assert _stable(out) == _stable(searched)
    glances = json.loads((searched / "search.json").read_text())["seen"]
    journal = (out / "journal.jsonl").read_text()
    assert journal.count('"glanced"') == sum(one["share"] < 1 for one in glances)


def _glances(run: Path) -> dict[tuple[float, float], float | None]:
    told = json.loads((run / "search.json").read_text())
    return {(s["keep_ratio"], s["share"]): s["f1"] for s in told["seen"] if s["share"] < 1}


def test_glances_that_fail_are_passed_over_and_those_by_chance_tried_again(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, faults = finicky.sweep.glance.train_head, [DataError("one class"), MemoryError("8")]

    def faulty(*given: Any, **more: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return whole(*given, **more)

    monkeypatch.setattr(finicky.sweep.glance, "train_head", faulty)
    run_sweep(project, tmp_path / "run", SETTINGS, search=FEW, execution=HERE)
    seen = _glances(tmp_path / "run")
    assert [seen[ratio, 0.25] for ratio in (0.4, 0.3)] == [None, None]
    assert seen[0.2, 0.25] is not None
    assert '"reason": "one class"' in (tmp_path / "run" / "journal.jsonl").read_text()
    run_sweep(project, tmp_path / "run", SETTINGS, search=FEW, execution=HERE)
    seen = _glances(tmp_path / "run")
    assert seen[0.4, 0.25] is None and seen[0.3, 0.25] is not None


def test_full_disk_ends_a_search(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(finicky.sweep.glance, "extract", full)
    with pytest.raises(StorageError, match="No space left"):
        run_sweep(project, tmp_path / "run", SETTINGS, search=FEW, execution=HERE)


def test_ratios_that_the_original_method_cannot_cut_are_passed_over(
    project: Project, tmp_path: Path
) -> None:
    search = replace(FEW, grid=(0.005, 0.2, 0.4), evaluated=3, halved=3)
    run_sweep(
        project,
        tmp_path / "run",
        replace(SETTINGS, method="original"),
        search=search,
        execution=HERE,
    )
    seen = _glances(tmp_path / "run")
    assert seen[0.005, 0.25] is None and seen[0.4, 0.25] is not None
    failed = read_table(tmp_path / "run" / "results.csv", failed=True)
    assert [row["candidate"] for row in failed] == ["keep-0.005"]
    assert "leaves none of the 64 channels" in failed[0]["failed"]


def test_glances_see_the_repair_that_was_asked_for(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, kinds = finicky.sweep.glance.repair_by, set()

    def noted(kind: str, *rest: Any) -> Any:
        kinds.add(kind)
        return whole(kind, *rest)

    monkeypatch.setattr(finicky.sweep.glance, "repair_by", noted)
    search = replace(FEW, grid=(0.2,))
    run_sweep(
        project,
        tmp_path / "run",
        replace(SETTINGS, repair="rescale"),
        search=search,
        execution=HERE,
    )
    assert kinds == {"rescale"}


@pytest.mark.parametrize(
    ("search", "depth", "each"),
    [(None, "full", 12 / 2), (None, "conv2,conv3", 12 / 6), (FEW, "conv2", 12 / 4)],
)
def test_time_for_training_is_divided_among_all_that_are_trained(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    search: SearchSettings | None,
    depth: str,
    each: float,
) -> None:
    """Two keep ratios, or the two that this search evaluates; each at every depth."""

    def stop(*_: object, train_time_s: float, **__: object) -> None:
        assert train_time_s == each
        raise DataError("seen enough")

    monkeypatch.setattr(finicky.sweep.run, "Workbench", stop)
    settings = replace(
        SETTINGS,
        keep_ratios=(0.1, 0.5, 1.0),
        train=("frozen", "finetune"),
        train_time_s=12.0,
        depth=depth,
        tiles_per_photo=1,
    )
    with pytest.raises(DataError, match="seen enough"):
        run_sweep(project, tmp_path / "run", settings, search=search)
