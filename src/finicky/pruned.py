"""Backbone, photos and masks in, a smaller network out: the one call of a script or notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from finicky.backbones import Backbone, Preprocessing, load_backbone
from finicky.backbones.truncation import truncate
from finicky.classes import DEFAULT_CLASSES, ClassTable
from finicky.data.pairs import UsablePairs, find_pairs, usable_pairs
from finicky.export.costs import fit_budgets, fit_plans
from finicky.files import write_text
from finicky.importance import DEFAULT_CRITERION, TileOptions
from finicky.progress import Progress, silent
from finicky.pruning import (
    Allocation,
    Counts,
    Cutter,
    PruningPlan,
    check_keep_ratio,
    count,
    restore,
    save_pruned,
)
from finicky.pruning.budget import parse_budgets
from finicky.ranking import FinickyRanking, Ranking, check_method, rank


@dataclass(frozen=True)
class PrunedModel:
    """A network that was cut to the filters that look at what was marked.

    Attributes:
        backbone: The pruned module with its preprocessing and provenance.
        plan: Which channels stayed.
        importance: One number a channel of the *unpruned* network, by convolution; higher = keep.
        before: Parameters and multiply-accumulates of the unpruned network.
        after: The same of this one.
        evidence: Which photos were used, and which were left out and why.
        input_size: Side in px of the tiles that ``before`` and ``after`` are counted for.
    """

    backbone: Backbone
    plan: PruningPlan
    importance: dict[str, np.ndarray]
    before: Counts
    after: Counts
    evidence: UsablePairs
    input_size: int

    @property
    def module(self) -> nn.Module:
        """``(N, 3, H, W)`` preprocessed float in, feature map out; frozen, in eval mode."""
        return self.backbone.module

    @property
    def whole(self) -> nn.Module:
        """`module` and the classifier that the network came with, its inputs cut to match.

        Gives ``(N, classes)``, as many as before; the same as `module` where there was none.
        """
        return self.backbone.whole

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``plan.json``; `finicky.load` reads them back."""
        save_pruned(self.backbone, self.plan, Path(folder), size=self.input_size)

    def facts(self) -> dict[str, Any]:
        """Keep ratio, method, and counts before and after, as plain values."""
        return {
            "keep_ratio": self.plan.keep_ratio,
            "method": self.plan.method,
            "channels": [self.before.channels, self.after.channels],
            "params": [self.before.params, self.after.params],
            "macs": [self.before.macs, self.after.macs],
        }


def prune(
    backbone: str | Path | Backbone,
    photos: str | Path,
    masks: str | Path,
    *,
    keep_ratio: float = 0.2,
    budget: str | Sequence[str] = (),
    method: str = "finicky",
    criterion: str = DEFAULT_CRITERION,
    round_to: int = 1,
    allocation: str = "uniform",
    min_channels: int = 1,
    depth: str = "",
    target: Sequence[str] | None = None,
    classes: ClassTable = DEFAULT_CLASSES,
    weights: str | Path | None = None,
    arch: str | None = None,
    preprocessing: str | Preprocessing | None = None,
    input_size: int = 224,
    progress: Progress = silent,
) -> PrunedModel:
    """Cut a network to the filters whose response overlaps the masks best.

    Args:
        backbone: A name or file, as `load_backbone` takes it, or a `Backbone`.
        photos: Folder of photos.
        masks: Folder of masks, each under its photo's relative path.
        keep_ratio: Share of channels that stays in every layer, in (0, 1].
        budget: Instead of a keep ratio: ``params=7%``, ``macs=300M``, ``latency=12ms`` (of
            ``model.onnx`` at ``input_size``, batch 1, one thread, on this machine) or ``size=1MB``
            (of that file); several must all be kept. The largest network that keeps them is made.
        method: ``finicky`` ranks once on the unpruned network and cuts any network that
            torch-pruning can trace; ``original`` is the 2021 method to the letter, for plain
            chains.
        criterion: For ``finicky``, what ranks filters; see ``finicky prune --help``.
        round_to: For ``finicky``: channel counts become multiples of it; 16 suits CPUs.
        allocation: For ``finicky``: ``uniform``, the keep ratio in every layer; ``global``, the
            best scores of all layers together; ``sensitivity``, more where a cut changes the
            answer more.
        min_channels: For ``finicky``: least that a layer keeps.
        depth: For ``finicky``: the last convolution that stays; empty: all do.
        target: Names of the classes that count as evidence; by default those of role target.
        classes: What the numbers in the masks mean.
        weights: Where the backbone's weights come from; see `load_backbone`.
        arch: For a file of weights, their architecture.
        preprocessing: What the network expects of photos, where its file does not say.
        input_size: Side in px that multiply-accumulates are counted for.
        progress: Told what is done of what.

    Raises:
        UsageError: An argument is out of range, or a folder is missing.
        DataError: No photo has a usable mask, or no mask holds a target class.
        UnsupportedModelError: The method cannot cut this network.

    The idea: a filter is worth keeping if it answers where a person marked the defect.
    """
    (model,) = prune_many(
        backbone,
        photos,
        masks,
        keep_ratios=(keep_ratio,),
        budget=budget,
        method=method,
        criterion=criterion,
        round_to=round_to,
        allocation=allocation,
        min_channels=min_channels,
        depth=depth,
        target=target,
        classes=classes,
        weights=weights,
        arch=arch,
        preprocessing=preprocessing,
        input_size=input_size,
        progress=progress,
    )
    return model


def prune_many(
    backbone: str | Path | Backbone,
    photos: str | Path,
    masks: str | Path,
    *,
    keep_ratios: Sequence[float] = (),
    budget: str | Sequence[str] = (),
    method: str = "finicky",
    criterion: str = DEFAULT_CRITERION,
    round_to: int = 1,
    allocation: str = "uniform",
    min_channels: int = 1,
    depth: str = "",
    target: Sequence[str] | None = None,
    classes: ClassTable = DEFAULT_CLASSES,
    weights: str | Path | None = None,
    arch: str | None = None,
    preprocessing: str | Preprocessing | None = None,
    input_size: int = 224,
    progress: Progress = silent,
) -> Iterator[PrunedModel]:
    """Cut a network at many keep ratios from one look at the photos.

    Args:
        keep_ratios: Each in (0, 1]; the networks come in this order, one at a time, so that a
            hundred of them need not be in memory together. Not read where there is a budget.

    The other arguments, and what is raised, are as for `prune`. All arguments and photos are
    checked, and filters scored, before the first network is asked for. Each network is checked:
    its counts follow from the plan, and it answers as the whole one does with the other channels
    dark.
    """
    for keep_ratio in keep_ratios:
        check_keep_ratio(keep_ratio)
    if not isinstance(backbone, Backbone):
        backbone = load_backbone(backbone, weights=weights, arch=arch, preprocessing=preprocessing)
    check_method(method, backbone)
    backbone.check_size(input_size)
    before = count(backbone.module, input_size)
    if depth:
        backbone = truncate(backbone, depth)
    rule = Allocation(allocation, min_channels, round_to)
    budgets = parse_budgets(budget)
    if budgets:  # refused before any photo is read
        fitted = fit_budgets(
            backbone,
            budgets,
            size=input_size,
            method=method,
            allocation=rule,
            progress=progress,
        )
        keep_ratios = (fitted,)
    targets = classes.targets(target)
    scan = find_pairs(Path(photos), Path(masks))
    evidence = usable_pairs(scan.pairs, classes, targets, progress=progress)
    ranking = rank(
        backbone,
        evidence.usable,
        classes=classes,
        targets=targets,
        method=method,
        criterion_name=criterion,
        allocation=rule,
        progress=progress,
    )
    if budgets and isinstance(ranking, FinickyRanking) and rule.kind != "uniform":
        fitted = fit_plans(backbone, budgets, ranking, size=input_size, progress=progress)
        keep_ratios = (fitted,)
    return _cut_all(backbone, ranking, evidence, keep_ratios, before, input_size, progress)


def write_networks(table: Path, facts: Sequence[Mapping[str, Any]]) -> None:
    """A CSV with a row a network: ``keep_ratio, folder, channels, params, macs``.

    ``facts`` are those of `PrunedModel.facts` and, as ``out``, the folder.
    """
    lines = ["keep_ratio,folder,channels,params,macs"]
    for one in facts:
        counts = (one[name][1] for name in ("channels", "params", "macs"))
        folder = Path(one["out"]).relative_to(table.parent).as_posix()
        lines.append(f"{one['keep_ratio']:.6g},{folder},{','.join(map(str, counts))}")
    write_text(table, "\n".join([*lines, ""]))


def _cut_all(
    backbone: Backbone,
    ranking: Ranking,
    evidence: UsablePairs,
    keep_ratios: Sequence[float],
    before: Counts,
    input_size: int,
    progress: Progress,
) -> Iterator[PrunedModel]:
    groups = ranking.groups if isinstance(ranking, FinickyRanking) else None
    cutter = Cutter(backbone, backbone.trace_size, groups=groups)
    for number, keep_ratio in enumerate(keep_ratios, start=1):
        plan = ranking.plan(keep_ratio)
        smaller = cutter.cut(plan.decisions)
        progress("cut", number, len(keep_ratios))
        yield PrunedModel(
            backbone=smaller,
            plan=plan,
            importance=ranking.scores,
            before=before,
            after=cutter.counts(plan.decisions, input_size),
            evidence=evidence,
            input_size=input_size,
        )
    cutter.check_unchanged()


def score_filters(
    backbone: str | Path | Backbone,
    photos: str | Path,
    masks: str | Path,
    *,
    criterion: str = DEFAULT_CRITERION,
    target: Sequence[str] | None = None,
    classes: ClassTable = DEFAULT_CLASSES,
    weights: str | Path | None = None,
    tile: int = 96,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """Importance of every filter, ``(C,)`` by name of convolution; higher = keep.

    What `MaskImportance` takes to torch-pruning's own pruners. Arguments as for `prune`; ``tile``
    is the side in px of the tiles that criteria with labels compare, ``seed`` that of those that
    draw.
    """
    if not isinstance(backbone, Backbone):
        backbone = load_backbone(backbone, weights=weights)
    targets = classes.targets(target)
    usable = usable_pairs(find_pairs(Path(photos), Path(masks)).pairs, classes, targets).usable
    ranking = rank(
        backbone,
        usable,
        classes=classes,
        targets=targets,
        criterion_name=criterion,
        tiles=TileOptions(size=tile),
        seed=seed,
        progress=progress,
    )
    return ranking.scores


def load(folder: str | Path) -> Backbone:
    """The pruned network of a folder that `PrunedModel.save` or ``finicky prune`` wrote.

    Outputs are bit-equal to those of the network that was saved. No code in the files is run.

    Raises:
        DataError: A file is missing or damaged.
    """
    return restore(Path(folder))[0]
