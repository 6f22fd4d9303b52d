"""What travels in words: the model card, the labels, and how to run it on a small computer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finicky._version import __version__
from finicky.evaluation import Interval
from finicky.export.source import MODEL, Source
from finicky.files import sha256_file, write_text
from finicky.flatness import restore_probability
from finicky.timing import LatencyComparison, environment

if TYPE_CHECKING:
    from finicky.export.bundle import Findings

CARD, LABELS, RECIPE = "MODEL_CARD.md", "labels.txt", "RUN_ON_PI.md"
# What no measurement can tell.
TODO = (
    "which surfaces, cameras, distances and light the photos show",
    "who made the masks, and by what rule",
    "the licence of the photos and masks",
    "known failures seen in use (shadows, joints, stains, wet surfaces)",
    "whom to ask",
)
_METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc")


def write_texts(stage: Path, source: Source, findings: Findings, *, name: str) -> tuple[str, ...]:
    """Write card, labels and recipe; returns what people must still fill in."""
    names = [str(n) for n in source.note["classes"]]
    write_text(stage / LABELS, "\n".join(names) + "\n")
    write_text(stage / RECIPE, recipe(name, source.tile))
    write_text(stage / CARD, card(stage, source, findings, name=name))
    return TODO


def card(stage: Path, source: Source, findings: Findings, *, name: str) -> str:
    """The model card: Hugging Face's front matter, then what a user must know."""
    parts = (
        _front_matter(source, findings, name),
        _what_for(source, name),
        _data(source),
        _quality(source, findings),
        _size(stage, source, findings),
        _checks(findings),
        _limits(),
        _origin(stage, source),
    )
    return "\n\n".join(parts) + "\n"


def _front_matter(source: Source, findings: Findings, name: str) -> str:
    test = findings.quality[findings.preferred]["test"]
    results = [
        {"type": metric, "value": round(test[metric].value, 4)}
        for metric in _METRICS
        if test[metric].value == test[metric].value
    ]
    index = [
        {
            "name": name,
            "results": [
                {
                    "task": {"type": "image-classification"},
                    "dataset": {"name": str(source.run["project"]), "type": "private"},
                    "metrics": results,
                }
            ],
        }
    ]
    # Every JSON value is a YAML value.
    fields: dict[str, Any] = {
        "license": "other",
        "library_name": "finicky",
        "tags": ["image-classification", "pruning", "onnx", source.target],
        "datasets": [],
        "metrics": ["accuracy", "f1", "recall"],
        "base_model": str(source.note["backbone"]),
        "model-index": index,
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _what_for(source: Source, name: str) -> str:
    has_map = source.note.get("map_px") is not None
    finer = f", and where in the tile, in cells of {source.note['map_px']:g} px" if has_map else ""
    return f"""# {name}

Finds **{source.target}** in photographs: for each tile of {source.tile} px the probability that
it shows one{finer}.

## What it is for

A first look through many photographs of surfaces like those it was trained on, so that a person
looks first where there is something to see.

Trained on: TODO ({TODO[0]}).

## What it is not for

- No verdict on structural safety, and no replacement for an inspection: it says where to look.
- Not for surfaces, cameras, distances or light that it was not trained on, before it was tested
  there.
- No measure of damage by itself: lengths and widths are those of what was found in the picture."""


def _data(source: Source) -> str:
    rows = "\n".join(
        f"| {split} | {n['photographs']} | {n['target']} | {n['other']} |"
        for split, n in source.counts().items()
    )
    return f"""## Data

Project `{source.run["project"]}`; splits by photograph, never by tile. Filters, heads and 8-bit
ranges saw the training split; thresholds and choices were made on validation; test was only
reported.

| split | photographs | tiles with {source.target} | tiles without |
|---|---|---|---|
{rows}

Masks: TODO ({TODO[1]})."""


def _quality(source: Source, findings: Findings) -> str:
    threshold = source.threshold
    head = "| file | split | " + " | ".join(m.replace("_", " ") for m in _METRICS) + " | missed |"
    rows = [
        f"| `{file}` | {split} | "
        + " | ".join(_interval(found[m]) for m in _METRICS)
        + f" | {_missed(found['recall'])} |"
        for file, splits in findings.quality.items()
        for split, found in splits.items()
    ]
    table = "\n".join([head, "|---" * (len(_METRICS) + 3) + "|", *rows])
    maps = ""
    if "map_high" in source.note.get("thresholds", {}):
        limits = source.note["thresholds"]
        high, low = (
            restore_probability(limits[name], limits.get("map_flattened", 1))
            for name in ("map_high", "map_low")
        )
        maps = f" In the map a region must reach {high:.3g} somewhere and {low:.3g} throughout."
    return f"""## Quality

A tile counts as {source.target} from probability **{threshold:g}** on, chosen on validation.{maps}
In brackets: 95 % interval, photographs drawn again. `missed`: share of tiles with
{source.target} that are not reported at this threshold.

{table}"""


def _size(stage: Path, source: Source, findings: Findings) -> str:
    metrics, full = source.metrics, source.unpruned
    lines = [
        f"Keep ratio {metrics['keep_ratio']:g} (pruning ratio {1 - metrics['keep_ratio']:g}) of "
        f"{source.note['backbone']}, method {metrics['method']}: {metrics['params']:,} parameters, "
        f"{metrics['macs']:,} multiply-adds a tile."
    ]
    if full is not None:
        lines.append(
            f"The unpruned network has {full['params']:,} parameters "
            f"({metrics['params'] / full['params']:.1%} are left), "
            f"{full['macs']:,} multiply-adds and a file of {full['size_bytes']:,} bytes."
        )
    for file in findings.quality:
        lines.append(f"`{file}`: {(stage / file).stat().st_size:,} bytes.")
    here = environment()
    lines.append(
        f"\nTimes of one tile, in turn, on {here['cpu']} with {here['cores']} cores, ONNX Runtime "
        f"{here.get('onnxruntime', '')}; `finicky bench` measures on your device, and it decides:\n"
    )
    words = {"one": "one thread", "all": "all cores"}
    lines += [
        f"- `{MODEL}` against the unpruned network, {words[w]}: {_times(c)}"
        for w, c in findings.times.unpruned.items()
    ]
    lines += [
        f"- 8-bit against `{MODEL}`, {words[w]}: {_times(c)}"
        for w, c in findings.times.int8.items()
    ]
    return "## Size and time\n\n" + "\n".join(lines)


def _checks(findings: Findings) -> str:
    parity = findings.parity
    verdict = (
        "within the limit"
        if parity.exact
        else "**NOT within the limit: this bundle was written with --allow-inexact**"
    )
    tints = f" and {parity.tinted} tinted copies of these grey ones" if parity.tinted else ""
    lines = [
        f"- PyTorch against ONNX Runtime from {parity.tiles} image files{tints}, batch 1 and 16, "
        f"one thread and all, optimised and not: largest difference of a logit "
        f"{parity.difference:.1e} of the largest ({parity.tolerance:.0e} allowed), {verdict}. "
        f"{parity.controls_found} of {len(parity.controls)} deliberate mistakes were noticed."
    ]
    if findings.int8 is not None:
        chosen = findings.int8.chosen
        for split, judged in findings.judged.items():
            cells = "" if judged.cells is None else f", of map cells {judged.cells:.2%}"
            lines.append(
                f"- 8-bit against float on {split}: same class on {judged.agreement:.2%} of tiles"
                f"{cells}; accuracy {100 * judged.drop:+.2f} points lost."
            )
        lines.append(
            f"- 8-bit recipe, decided on validation: {chosen.recipe.words}; ranges from "
            f"{findings.int8.calibration_tiles} training tiles."
        )
    if findings.int8_problem:
        lines.append(f"- 8-bit file not used: {findings.int8_problem}.")
    lines.append(f"- Preferred: `{findings.preferred}`.")
    return "## How it was checked\n\n" + "\n".join(lines)


def _limits() -> str:
    return f"""## Known failures

TODO ({TODO[3]}).

Measured on photographs like those it was trained on; on others expect worse, and test first."""


def _origin(stage: Path, source: Source) -> str:
    provenance = source.note["provenance"]
    files = [MODEL, "model.int8.onnx"]
    hashes = "\n".join(f"- `{n}`: {sha256_file(stage / n)}" for n in files if (stage / n).is_file())
    return f"""## Licences, version, hashes

- Weights that it was cut from: {provenance["source"]}; licence: {provenance["license"]}.
- Photos and masks: TODO ({TODO[2]}).
- Made by finicky {__version__}, candidate {source.candidate}, data SHA-256
  {source.run["conditions"]["data_sha256"]}.
- Contact: TODO ({TODO[4]}).

SHA-256 (all files: `SHA256SUMS`):

{hashes}"""


def recipe(name: str, tile: int) -> str:
    """``RUN_ON_PI.md``: from a bare device to a report in a minute."""
    return f"""# Run it on a Raspberry Pi

A 64-bit system with Python 3.11 or newer. Copy this folder to the device, then:

    python3 -m venv finicky && . finicky/bin/activate
    pip install finicky-transfer-learning
    sha256sum --check {SUMS_NAME}            # the folder is whole
    finicky bench .                          # which file is faster here, and is it right
    finicky predict . photos/ --out results  # a report, overlays and tables

That installs numpy, Pillow, onnxruntime, typer and rich; no PyTorch. Photos of any size are cut
into tiles of {tile} px at their own resolution: photograph {name} at the distance that the training
photos were taken from. Read `MODEL_CARD.md` first.
"""


SUMS_NAME = "SHA256SUMS"


def _interval(interval: Interval) -> str:
    if interval.value != interval.value:
        return "undefined"
    if interval.low != interval.low:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _missed(recall: Interval) -> str:
    return "undefined" if recall.value != recall.value else f"{1 - recall.value:.1%}"


def _times(compared: LatencyComparison) -> str:
    stats, reference = compared.stats, compared.reference
    return (
        f"p50 {stats.p50_ms:.2f} ms against {reference.p50_ms:.2f} ms, "
        f"{compared.ratio:.2f} times as fast "
        f"({compared.ratio_low:.2f} to {compared.ratio_high:.2f})"
    )
