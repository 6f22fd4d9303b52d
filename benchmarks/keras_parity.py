"""Compare our reading of Keras files with what Keras answered; see ``keras_models.py``.

    python benchmarks/keras_parity.py FOLDER [--cut] [--only TEXT]

For each file: the largest difference over the largest output of the whole network; with ``--cut``
also whether the features can be cut to 0.5 and 0.1 of their channels, with every check of a cut,
and whether the saved result comes back in a fresh process with bit-equal outputs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from finicky.backbones import Backbone, convolutions, load_backbone
from finicky.backbones.keras.reader import read_whole
from finicky.errors import FinickyError
from finicky.pruning import (
    count,
    cut_backbone,
    find_groups,
    plan_from_scores,
    restore,
    save_pruned,
)


def difference(path: Path) -> float:
    """Largest difference from Keras over Keras' largest output, the whole network."""
    with np.load(path.with_suffix(".npz")) as answers:
        photos, raw, wanted = answers["photos"], bool(answers["raw"]), answers["outputs"]
    x = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        found = read_whole(path)(x if raw else x / 127.5 - 1)
    if found.ndim == 4:
        found = found.permute(0, 2, 3, 1)
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())


def cut_and_restore(backbone: Backbone, keep: float, folder: Path) -> str:
    """Cut by random scores, save, restore in a fresh process; parameters left, or what failed."""
    size = backbone.head_size or max(backbone.min_size, 64)
    rng = np.random.default_rng(0)
    layers = convolutions(backbone.module, size)
    scores = {name: rng.random(conv.out_channels) for name, conv in layers.items()}
    groups = find_groups(backbone.module, size)
    plan = plan_from_scores(groups, scores, keep, backbone=backbone.name, criterion="random")
    small = cut_backbone(backbone, plan.decisions, size)
    save_pruned(small, plan, folder, size=size)
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        np.save(folder / "wanted.npy", small.whole(x).numpy())
    subprocess.run([sys.executable, __file__, "--restore", str(folder)], check=True)
    before, after = count(backbone.module, size), count(small.module, size)
    return f"{after.params / before.params:.1%}"


def check_restored(folder: Path) -> None:
    """In a fresh process: the folder's network answers as before, to the bit."""
    backbone, _ = restore(folder)
    wanted = np.load(folder / "wanted.npy")
    size = backbone.head_size or max(backbone.min_size, 64)
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = backbone.whole(x).numpy()
    if not np.array_equal(found, wanted):
        sys.exit(f"{folder}: the restored network answers otherwise")


def row(path: Path, cut: bool) -> str:
    """One line of the table."""
    start, cells = time.perf_counter(), [path.name]
    try:
        cells.append(f"{difference(path):.1e}")
        backbone = load_backbone(path)
        cells.append("yes" if backbone.head is not None else "no")
        for keep in (0.5, 0.1) if cut else ():
            with tempfile.TemporaryDirectory() as folder:
                cells.append(cut_and_restore(backbone, keep, Path(folder)))
    except (FinickyError, subprocess.CalledProcessError) as error:
        cells.append(f"{type(error).__name__}: {error}"[:300])
    cells += [""] * (5 - len(cells)) + [f"{time.perf_counter() - start:.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cut", action="store_true")
    parser.add_argument("--only", default="", help="a part of the file names")
    parser.add_argument("--restore", action="store_true")
    options = parser.parse_args()
    if options.restore:
        check_restored(options.folder)
        return
    print("| file | difference | head | parameters at keep 0.5 | at 0.1 | s |")
    print("|---|---|---|---|---|---|", flush=True)
    for path in sorted([*options.folder.glob("*.h5"), *options.folder.glob("*.keras")]):
        if options.only in path.name:
            print(row(path, options.cut), flush=True)


if __name__ == "__main__":
    main()
