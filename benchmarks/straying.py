"""How far the reference masks' centre lines stray from the darkest line of the cracks they follow.

Somebody drew those masks by hand, so this says how far a careful hand strays, and how good a mask
can be at all that follows what is visible: the scripted person of `labeling.py` takes the figure.

    python benchmarks/straying.py ../shared/data/cfd

For each point of a centre line (smoothed by 4 px) the brightness (smoothed by 1.2 px) is read off
up to 5 px to either side; the darkest track through these profiles, at the price of its jumps, is
the line that is visible. Photos of the split `train` only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from labeling import _iou, _load, _paths, _split, _stroke
from scipy import ndimage

BESIDE = np.arange(-5, 5.01, 0.5)
JUMP = 1.0  # price of a jump by 1 px, in standard deviations of brightness
SHORT = 30  # px; shorter pieces say little


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with images/, masks/ and split.csv")
    arguments = parser.parse_args()
    arguments.tune, arguments.photos = False, 0
    spreads, shares = [], []
    for name in _split(arguments)[0]:
        rgb, truth = _load(arguments.data, name)
        dark = ndimage.gaussian_filter(rgb.astype(float).mean(2), 1.2)
        paths = [path for path in _paths(truth, 5000) if len(path) >= SHORT]
        if not paths:
            continue
        lines = [_smooth(path) for path in paths]
        strays = [_strays(dark, line) for line in lines]
        spreads.append(np.concatenate(strays).std())
        drawn = [
            _stroke(_moved(line, stray, truth.shape), truth, 0, np.random.default_rng(0), path)
            for path, line, stray in zip(paths, lines, strays, strict=True)
        ]
        shares.append(_iou(np.logical_or.reduce(drawn), truth))
    low, middle, high = np.percentile(spreads, [25, 50, 75])
    print(f"{len(spreads)} photos; standard deviation of the straying, in px, per photo:")
    print(f"median {middle:.2f}, middle half {low:.2f} to {high:.2f}")
    print(f"IoU of the visible lines, drawn as wide as the reference: {np.mean(shares):.3f}")


def _smooth(path: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter1d(path.astype(float), 4, axis=0, mode="nearest")


def _normals(line: np.ndarray) -> np.ndarray:
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    return np.stack([-along[:, 1], along[:, 0]], axis=1)


def _strays(dark: np.ndarray, line: np.ndarray) -> np.ndarray:
    """By how many px the darkest track lies beside each point of a line."""
    places = [line + step * _normals(line) for step in BESIDE]
    profiles = np.stack([ndimage.map_coordinates(dark, at.T, order=1) for at in places])
    cost = (profiles - profiles.min(axis=0)) / (profiles.std() + 1e-9)
    jumps = JUMP * np.abs(BESIDE[:, None] - BESIDE[None])
    total, before = cost[:, 0], []
    for column in cost.T[1:]:
        reached = total[None] + jumps
        before.append(reached.argmin(axis=1))
        total = reached.min(axis=1) + column
    track = [int(total.argmin())]
    for step in reversed(before):
        track.append(int(step[track[-1]]))
    return BESIDE[track[::-1]]


def _moved(line: np.ndarray, stray: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    moved = np.rint(line + stray[:, None] * _normals(line)).astype(int)
    return np.clip(moved, 0, np.array(shape) - 1)


if __name__ == "__main__":
    main()
