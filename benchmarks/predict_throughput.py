"""Photos a second of `finicky.predict` against a hand-written ONNX Runtime loop, in turn.

    python benchmarks/predict_throughput.py crack-vgg16 PHOTOS [--count 40] [--rounds 3] [--cpu]

The loop decodes with Pillow, cuts the same tiles, runs the same batches on all cores with the same
ONNX Runtime and throws the answers away. `predict` does the same and merges, measures and writes:
once tables and report only, once with masks, overlays and outlines. Printed is the median over
rounds, with the ratio to the loop of the same round; then the peak memory of this process.

With ``--cpu`` each way has one thread, and processor time is counted instead of time by the clock:
what other programs do on the machine hardly changes it.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from PIL import Image

import finicky
from finicky.edge import PredictSettings, rule_for
from finicky.images import list_images
from finicky.tiling import tile_origins
from finicky.timing import environment


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="one thread, processor time")
    arguments = parser.parse_args()
    threads, clock = (1, time.process_time) if arguments.cpu else (0, time.perf_counter)
    bundle = finicky.open_bundle(arguments.bundle)
    photos = list_images(arguments.photos)[: arguments.count]
    ways: dict[str, Callable[[], None]] = {
        "loop": lambda: loop(bundle, photos, threads),
        "tables": lambda: predict(bundle, photos, (), threads),
        "everything": lambda: predict(bundle, photos, ("overlays", "masks", "geojson"), threads),
    }
    for way in ways.values():
        way()  # warm: file cache, sessions
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            began = clock()
            way()
            times[name].append(clock() - began)
    rate = {name: round(len(photos) / median(taken), 2) for name, taken in times.items()}
    ratio = {
        name: round(median(a / b for a, b in zip(times["loop"], taken, strict=True)), 3)
        for name, taken in times.items()
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"photos": len(photos), "photos_per_s": rate, "of_loop": ratio, "peak_mb": round(peak)}
    print(json.dumps({**told, "environment": environment()}, indent=1))


def loop(bundle: finicky.Bundle, photos: list[Path], threads: int) -> None:
    """What one would write by hand."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(bundle.path), options, providers=["CPUExecutionProvider"]
    )
    side, stride = bundle.tile_px, rule_for(bundle).stride
    size = max(1, min(32, 16 * 96 * 96 // side**2))
    for path in photos:
        rgb = np.asarray(Image.open(path).convert("RGB"))
        tiles = [
            rgb[y : y + side, x : x + side]
            for x, y in tile_origins(rgb.shape[1], rgb.shape[0], side, stride)
        ]
        for start in range(0, len(tiles), size):
            session.run(None, {"tiles": np.stack(tiles[start : start + size])})


def predict(
    bundle: finicky.Bundle, photos: list[Path], outputs: tuple[str, ...], threads: int
) -> None:
    """The same with all that the product does."""
    with tempfile.TemporaryDirectory() as folder:
        finicky.predict(bundle, photos, folder, PredictSettings(outputs=outputs, threads=threads))


if __name__ == "__main__":
    main()
