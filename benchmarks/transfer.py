"""Networks chosen on one data set, tested on the others, beside the unpruned network and its head.

    finicky tiles ../shared/data/crack500 --tile 96 --tiles-per-photo 2 --out TILES
    python benchmarks/transfer.py --runs cfd=RUN ... --sets crack500=TILES metu=../shared/data/metu
                                  --out docs/evidence/transfer.csv

Each RUN is a finished run folder; its exported files answer: the chosen candidate and ``keep-1``.
Tested on the test tiles of every run, and on the split ``test`` of other class folders, evenly
thinned; what is larger than a tile, as METU's photographs of 227 px, is scaled down to one. Nothing
is trained or chosen anew; a probability of one half decides, as the head was trained. Intervals are
95 %, by photograph, the difference's paired.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from finicky.data.folders import read_class_folders
from finicky.evaluation import bootstrap_difference, bootstrap_metrics, score_predictions
from finicky.images import read_image

FIELDS = (
    *("trained_on", "run", "tested_on", "tiles", "candidate"),
    *("balanced_accuracy", "low", "high", "auroc"),
    *("unpruned", "unpruned_auroc", "difference", "difference_low", "difference_high"),
)
TARGET = "crack"


@dataclass(frozen=True)
class Tiles:
    """Of one data set: ``(N, S, S, 3)`` bytes, labels and photographs."""

    pixels: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", nargs="+", required=True, metavar="NAME=RUN")
    parser.add_argument("--sets", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--most", type=int, default=300)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    runs = [(name, Path(run)) for name, run in (one.split("=", 1) for one in options.runs)]
    more = {name: Path(where) for name, where in (one.split("=", 1) for one in options.sets)}
    rows = []
    for name, run in runs:
        folders = {name: run / "tiles"} | more
        size = tile_size(run)
        sets = {other: test_tiles(where, size, options.most) for other, where in folders.items()}
        candidate = chosen(run)
        for other, tiles in sets.items():
            rows.append(
                {"trained_on": name, "tested_on": other, "candidate": candidate, "run": run.name}
            )
            rows[-1] |= compared(run, candidate, tiles)
            print(rows[-1], flush=True)
    with options.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def tile_size(run: Path) -> int:
    return Image.open(next((run / "tiles").rglob("*.png"))).width


def chosen(run: Path) -> str:
    """The name of the selected candidate."""
    with (run / "results.csv").open(newline="", encoding="utf-8") as stream:
        return next(r["candidate"] for r in csv.DictReader(stream) if r["selected"] == "1")


def test_tiles(folder: Path, size: int, most: int | None = None) -> Tiles:
    """The split ``test`` of class folders, evenly thinned to ``most``, scaled to the tile."""
    samples = [s for s in read_class_folders(folder).samples if s.split == "test"]
    if most is not None and len(samples) > most:
        samples = [samples[i] for i in np.linspace(0, len(samples) - 1, most).round().astype(int)]
    pixels = []
    for sample in samples:
        photo = Image.fromarray(read_image(sample.path))
        if photo.size != (size, size):
            photo = photo.resize((size, size), Image.Resampling.LANCZOS)
        pixels.append(np.asarray(photo))
    labels = np.array([int(s.label == TARGET) for s in samples])
    return Tiles(np.stack(pixels), labels, np.array([s.group for s in samples]))


def compared(run: Path, candidate: str, tiles: Tiles) -> dict[str, object]:
    """Both networks on the same tiles."""
    mine = answers(run / "candidates" / candidate / "model.onnx", tiles.pixels)
    full = answers(run / "candidates" / "keep-1" / "model.onnx", tiles.pixels)
    own = bootstrap_metrics(tiles.labels, mine, tiles.groups)["balanced_accuracy"]
    off = bootstrap_difference(tiles.labels, mine, full, tiles.groups)["balanced_accuracy"]
    scores = [score_predictions(tiles.labels, p) for p in (mine, full)]
    values = {
        "balanced_accuracy": own.value,
        "low": own.low,
        "high": own.high,
        "auroc": scores[0].auroc,
        "unpruned": scores[1].balanced_accuracy,
        "unpruned_auroc": scores[1].auroc,
        "difference": off.value,
        "difference_low": off.low,
        "difference_high": off.high,
    }
    return {"tiles": len(tiles.labels)} | {k: round(float(v), 4) for k, v in values.items()}


def answers(model: Path, tiles: np.ndarray) -> np.ndarray:
    """Probabilities of the target."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
    parts = [tiles[i : i + 32] for i in range(0, len(tiles), 32)]
    return np.concatenate([session.run(["probabilities"], {"tiles": p})[0][:, 1] for p in parts])


if __name__ == "__main__":
    main()
