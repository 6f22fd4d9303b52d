"""The conditions that the numbers hold under, as names and values for the report's last section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

import numpy as np

from finicky.flatness import restore_probability
from finicky.importance import CRITERIA
from finicky.report import wording as w
from finicky.report.comparison import RESAMPLES
from finicky.report.facts import SPLITS, RunFacts
from finicky.report.search import search_words
from finicky.sweep.training_kinds import KIND_WORDS

# Of `environment()`, in the order in which they are told.
_VERSIONS = ("finicky", "python", "torch", "torch-pruning", "onnxruntime", "scikit-learn", "numpy")
_LIMITS = {
    "max_latency_ms": ("time per tile at most", " ms"),
    "max_size_mb": ("file at most", " MB"),
    "max_params": ("parameters at most", ""),
    "min_recall": ("recall at least", ""),
    "min_f1": ("F1 at least", ""),
    "min_accuracy": ("accuracy at least", ""),
    "max_f1_drop": ("F1 below the full network's by at most", ""),
}


@dataclass(frozen=True)
class Detail:
    """One condition in words."""

    name: str
    value: str


@dataclass(frozen=True)
class SplitLine:
    """What one split holds."""

    name: str
    use: str
    photos: str
    groups: str
    positives: str
    negatives: str


@dataclass(frozen=True)
class Rejection:
    """A photo that was left out."""

    file: str
    reason: str


def split_lines(facts: RunFacts) -> list[SplitLine]:
    """Photos, photographs (groups) and tiles of each split."""
    uses = {
        "train": "ranks the filters and trains the head",
        "validation": "decides which candidate is chosen",
        "test": "is reported, once, and decides nothing",
    }
    found = facts.full.predictions
    photos = facts.run.get("photos", {})
    lines = []
    for split in SPLITS:
        rows = found.splits == split
        positives = int(np.sum(found.labels[rows] == 1))
        lines.append(
            SplitLine(
                split,
                uses[split],
                w.count(len(photos.get(split, ()))),
                w.count(len(np.unique(found.groups[rows]))),
                w.count(positives),
                w.count(int(rows.sum()) - positives),
            )
        )
    return lines


def rejections(facts: RunFacts) -> list[Rejection]:
    """Photos that were left out, by their path in the project; of any other path only the name."""
    return [
        Rejection(_inside(str(path)), str(reason)) for path, reason in facts.run.get("rejected", ())
    ]


def _inside(path: str) -> str:
    # Windows' rules know "/" as well: an anchor is a drive, a share or a leading slash.
    return PureWindowsPath(path).name if PureWindowsPath(path).anchor else path


def method_details(facts: RunFacts) -> list[Detail]:
    """How filters were ranked, and how quality was measured."""
    told = facts.conditions
    return [
        *(Detail(label, text) for label, text in search_words(facts.root)),
        Detail("Network", f"{told.get('backbone')}; weights: {_weights(facts.run)}"),
        Detail("Ranking", _ranking(told)),
        Detail("After the cut", _repair(facts)),
        Detail("Training", _training(facts)),
        Detail(
            "Tiles",
            f"{told.get('tile')} × {told.get('tile')} px at the photo's own scale; "
            f"“{facts.target}” where it covers at least "
            f"{w.keep_percent(told.get('min_coverage', np.nan))} of one",
        ),
        Detail("Head", _head(facts)),
        Detail("Mean ± deviation", _seeds(facts)),
        Detail(
            f"95{w.SPACE}% intervals",
            f"bootstrap over whole photographs ({w.count(RESAMPLES)} draws, percentiles), because "
            "tiles of one photograph are alike. For differences both networks see the same draws. "
            "They speak of new photographs like these, not of other surfaces or cameras",
        ),
        Detail("Exported file", _parity(facts.chosen.metrics["parity"])),
        Detail("Map finer than a tile", _map(facts)),
        Detail("Seed", f"{told.get('seed')}"),
    ]


def _map(facts: RunFacts) -> str:
    told: Mapping[str, Any] | None = facts.choice.get("map")
    if told is None:
        return "none"
    if "reason" in told:
        return f"none: {told['reason']}"
    flattened = told.get("flattened", 1)
    high, low = (restore_probability(told[n], flattened) for n in ("map_high", "map_low"))
    text = (
        f"cells of {told['map_px']:g} × {told['map_px']:g} px from {len(told['taps'])} layers; "
        f"a region counts from {high:.3g} on and reaches down to {low:.3g}; "
        f"pixel F1 with a tolerance of {told['tolerance_px']} px: "
        f"{told['validation']['f1']:.3f} on validation photos"
    )
    if told["test"] is None:
        return text
    low, high = told["test_f1_interval"]
    return f"{text}, {told['test']['f1']:.3f} ({low:.3f} to {high:.3f}) on test photos"


def choice_details(facts: RunFacts) -> list[Detail]:
    """The decision function, its weights and the limits."""
    limits = [
        f"{_LIMITS[name][0]} {value:g}{_LIMITS[name][1]}"
        for name, value in facts.choice.get("constraints", {}).items()
        if value is not None and name in _LIMITS
    ]
    return [
        Detail("Decision function", decision_formula(facts)),
        Detail("Measured on", "the validation photos only; the full network is the reference (₀)"),
        Detail("Limits", "; ".join(limits) or "none"),
        Detail("Score of the chosen network", f"{facts.chosen.number('score'):.3f}"),
    ]


def decision_formula(facts: RunFacts) -> str:
    """The score as a formula, without the terms that were left out."""
    if facts.choice.get("decision") == "published":
        return "F1/F1₀ + (1 − P/P₀), with P parameters (the published form, 2021)"
    weights: Mapping[str, float] = facts.choice.get("weights", {})
    terms = [
        (weights.get("quality", 0), "F1/F1₀"),
        (weights.get("params", 0), "(1 − P/P₀)"),
        (weights.get("time", 0) if facts.timed else 0, "(1 − t/t₀)"),
    ]
    formula = " + ".join(f"{weight:g} · {term}" for weight, term in terms if weight)
    time = "; t time per tile at one thread" if "t/t₀" in formula else ""
    return f"{formula}, with P parameters{time}"


def machine_details(facts: RunFacts) -> list[Detail]:
    """Where it was run and timed, and with what."""
    here: Mapping[str, Any] = facts.run.get("environment", {})
    details = [
        Detail("Processor", f"{here.get('cpu')}, {w.plural(here.get('cores', 0), 'logical core')}"),
        Detail("System", str(here.get("os"))),
        Detail("Versions", ", ".join(f"{k} {here[k]}" for k in _VERSIONS if k in here)),
    ]
    if facts.timed:
        details.append(Detail("Times", _timing(facts, here)))
    return details


def _timing(facts: RunFacts, here: Mapping[str, Any]) -> str:
    there = facts.latency_environment or here
    where = "" if there.get("cpu") == here.get("cpu") else f" on {there.get('cpu')}"
    return (
        f"ONNX Runtime{where}, one tile at a time (batch 1), with one thread and with all "
        f"{there.get('cores')} cores; each network in turn with the full one, so that the ratio "
        "holds even where the machine was disturbed. Reading the photo and cutting it into tiles "
        "is not included"
    )


def _ranking(told: Mapping[str, Any]) -> str:
    if told.get("method") == "original":
        return "method “original” (2021): overlap of each response with the masks, layer by layer"
    name = str(told.get("criterion"))
    summary = CRITERIA[name].summary if name in CRITERIA else "unknown to this version"
    return f"criterion “{name}”: {summary}; ranked once on the full network"


def _repair(facts: RunFacts) -> str:
    chosen = facts.chosen.metrics
    tried = " (tried both ways; better on validation)" if len(chosen["repairs"]) > 1 else ""
    if facts.full_was_chosen or chosen["repair"] == "none":
        return f"the filters that stayed are as they were{tried}"
    if chosen["repair"] == "rescale":
        return f"each channel was brought to its mean and spread in the full network{tried}"
    return f"each layer was fitted to the full network's responses, on training tiles{tried}"


def _head(facts: RunFacts) -> str:
    features = f"on “{facts.conditions.get('features')}” features of the last layer"
    strength = facts.chosen.metrics["C"]
    if strength is None:
        return f"logistic, {features}, trained together with the network"
    return (
        f"logistic regression {features}; C = {strength:g}, by cross-validation on the "
        "training photos"
    )


def _seeds(facts: RunFacts) -> str:
    seeds = len(facts.chosen.predictions.by_seed)
    if facts.chosen.metrics.get("training"):
        return "none: a trained network is trained once, with its one head, on all training photos"
    return (
        f"over {w.plural(seeds, 'head')}, each trained on another three "
        "quarters of the training photos; the exported head is trained on all of them"
    )


def _training(facts: RunFacts) -> str:
    told = facts.chosen.metrics.get("training")
    if not told:
        return "weights frozen; a logistic head on the features"
    kind = KIND_WORDS[facts.chosen.metrics["train"]]
    masks = ", with the masks as a second teacher" if told["masks"] else ""
    return (
        f"{kind}: {w.plural(told['epochs'], 'epoch')} in {told['seconds']:.0f} s{masks}; kept was "
        f"epoch {told['best_epoch']}, by validation"
    )


def _weights(run: Mapping[str, Any]) -> str:
    source: Mapping[str, Any] = run.get("provenance", {})
    return f"{source.get('source')} (licence: {source.get('license')})"


def _parity(parity: Mapping[str, Any]) -> str:
    same = "the same answer on every one" if parity["same_class"] else "another answer on some"
    return (
        f"ONNX, compared with PyTorch on {w.plural(parity['tiles'], 'tile')}: {same}, largest "
        f"relative difference {parity['difference']:.0e}"
    )
