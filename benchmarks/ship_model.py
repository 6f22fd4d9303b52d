"""Put a built and checked model into the package: ``src/finicky/models/NAME/``.

    python benchmarks/ship_model.py NAME --run FOLDER/NAME --checked CHECKED.json

The folder is a bundle: ``model.onnx``, ``labels.txt``, ``MODEL_CARD.md``, ``SHA256SUMS`` and, last,
``bundle.json``. CHECKED.json is what ``check_models.py --out`` wrote of the same file. Refused if
all of it is larger than 1.5 MB.
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from finicky.export import read_metadata
from finicky.files import read_json, sha256_file, write_json, write_text
from finicky.sweep import read_table
from finicky.timing import measure_in_turn

MODELS = Path(__file__).parent.parent / "src" / "finicky" / "models"
MOST_BYTES = 1_500_000

CARD = """---
license: apache-2.0
library_name: finicky-transfer-learning
tags: [crack-detection, pruning, onnx]
---
# {name}

Finds cracks in photos of concrete and similar surfaces: for each tile of {tile} px the probability
of a crack, and a map with cells of {map_px:g} px. Made by `benchmarks/build_models.py`; run it
with `finicky predict {name} PHOTOS`.

**Not for** verdicts on safety, measurements of record, or surfaces unlike those below without a
check on photos of your own: see how much quality falls on roads it never saw.

## What it is
{backbone} cut to keep ratio {keep:g}: {params:,} parameters instead of {full_params:,}. With the
map, p50 per tile is {latency:.2f} ms; the unpruned network without a map takes
{full_latency:.1f} ms: {ratio:.1f} ({ratio_low:.1f} to {ratio_high:.1f}) times as long, measured in
turn, one thread, one tile at a time ({cpu}). Weights came from: {provenance}.

## What it was trained on
Concrete photographs of METU (Ç. F. Özgenel, Mendeley Data 5y9wdsg2zt, CC BY 4.0), outlined by their
darkness where that gave one long thin region, and surfaces drawn by our own generator with exact
masks. Filters, head, candidate and thresholds were chosen on these two. Thresholds: tile
{tile_threshold:g}; map {high:.3f} to begin a region, {low:.3f} to extend it.

## How it does
95 % intervals by photograph. *Validation* and *own test* are other photographs of the same making;
the rest it never saw: no weight, candidate or threshold comes from them. Our own part in it: the
generator's styles were drawn after a look at a few photos of both road sets, and the pixel head's
form (not its weights) was worked out on CFD.

{table}

CFD and Crack500 photographs are not part of this package and were only measured on. Tiles: crack
from 1 % of crack pixels on, clean without any. Map: all pixels of all photos taken together,
tolerance 2 px for F1, none for IoU.

## Known failures
{failures}

## Licences
Code and this file: Apache-2.0. Backbone weights: {licence}. METU: CC BY 4.0.
"""

FAILURES = """**Coarse asphalt and exposed stones: do not use it there.** Gaps between stones and
dark stones are taken for cracks; on Crack500 its tiles are hardly better than a guess. On finer
roads (CFD) its map follows wide cracks and loses thin ones, and too many clean tiles are called
cracked. Dark stains, joints and whatever else is dark and thin can be taken for a crack."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--checked", type=Path, required=True)
    options = parser.parse_args()
    out = MODELS / options.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    checked = read_json(options.checked)
    source = options.run / "selected" / "model.onnx"
    add_to_note(source, out / "model.onnx", options.name, options.run, checked)
    write_text(out / "labels.txt", "\n".join(read_metadata(source)["classes"]) + "\n")
    write_text(out / "MODEL_CARD.md", card(options.name, options.run, checked))
    names = ("MODEL_CARD.md", "labels.txt", "model.onnx")
    hashes = {name: sha256_file(out / name) for name in names}
    write_text(out / "SHA256SUMS", "".join(f"{h}  {n}\n" for n, h in hashes.items()))
    value = {
        "schema": 1,
        "name": options.name,
        "preferred": "model.onnx",
        "files": hashes,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(out / "bundle.json", value)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {size:,} bytes")
    if size > MOST_BYTES:
        shutil.rmtree(out)
        raise SystemExit(f"{size:,} bytes are more than {MOST_BYTES:,}: nothing was written")


def add_to_note(source: Path, target: Path, name: str, run: Path, checked: Any) -> None:
    """The model with its evidence in its own metadata."""
    model = onnx.load(source)
    facts = read_json(run / "selected" / "map.json")
    note = read_metadata(source) | {
        "name": name,
        "licence": "Apache-2.0",
        "metrics": {"checked": checked, "map": {k: facts[k] for k in ("validation", "test")}},
        "training": {"data_sha256": read_json(run / "run.json")["conditions"]["data_sha256"]},
    }
    for entry in model.metadata_props:
        if entry.key == "finicky":
            entry.value = json.dumps(note, ensure_ascii=False, allow_nan=False)
    onnx.save(model, target)
    assert read_metadata(target)["name"] == name


def card(name: str, run: Path, checked: Any) -> str:
    rows = read_table(run / "results.csv")
    chosen = next(row for row in rows if row["selected"])
    full = next(row for row in rows if row["keep_ratio"] == 1)
    note = read_metadata(run / "selected" / "model.onnx")
    conditions = read_json(run / "run.json")
    limits, provenance = note["thresholds"], note["provenance"]
    environment = conditions["environment"]
    report = measure_in_turn(
        run / "candidates" / "keep-1" / "model.onnx",
        [MODELS / name / "model.onnx"],
        inputs=np.zeros((1, note["tile_px"], note["tile_px"], 3), np.uint8),
        threads=1,
        seconds_per_candidate=4,
    )
    reference, timed = report.reference.p50_ms, report.candidates[0]
    return CARD.format(
        name=name,
        tile=note["tile_px"],
        map_px=note["map_px"],
        backbone=str(note["backbone"]),
        keep=chosen["keep_ratio"],
        params=int(chosen["params"]),
        full_params=int(full["params"]),
        latency=timed.stats.p50_ms,
        full_latency=reference,
        ratio=timed.ratio,
        ratio_low=timed.ratio_low,
        ratio_high=timed.ratio_high,
        cpu=f"{environment['cpu']}, {environment['cores']} cores",
        provenance=f"{provenance['source']} ({provenance['license']})",
        licence=provenance["license"],
        tile_threshold=limits["tile"],
        high=limits["map_high"],
        low=limits["map_low"],
        table=table(run, chosen, checked),
        failures=FAILURES,
    )


def table(run: Path, chosen: Any, checked: Any) -> str:
    facts = read_json(run / "selected" / "map.json")
    lines = [
        "| photographs | balanced accuracy | F1 | AUROC | pixel F1 | pixel IoU |",
        "|---|---|---|---|---|---|",
    ]
    pixel = facts["validation"]
    lines.append(
        f"| validation | {chosen['val_balanced_accuracy']:.3f} | {chosen['val_f1']:.3f} "
        f"| {chosen['val_auroc']:.3f} | {pixel['f1']:.3f} | {pixel['iou']:.3f} |"
    )
    pixel, ends = facts["test"], facts["test_f1_interval"]
    own = [_told([chosen[m + e] for e in ("", "_low", "_high")]) for m in _METRICS]
    lines.append(
        f"| own test | {' | '.join(own)} | {_told([pixel['f1'], *ends])} | {pixel['iou']:.3f} |"
    )
    for title, found in checked.items():
        cells = [_told(found[metric]) for metric in _METRICS]
        pixel = found.get("pixel")
        cells += (
            [_told([pixel["f1"], pixel["f1_low"], pixel["f1_high"]]), f"{pixel['iou']:.3f}"]
            if pixel
            else ["no masks", "no masks"]
        )
        lines.append(f"| {title} (never seen) | {' | '.join(cells)} |")
    return "\n".join(lines)


_METRICS = ("balanced_accuracy", "f1", "auroc")


def _told(values: list[float]) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"


if __name__ == "__main__":
    main()
