"""How fast a bundle is on this machine, and which of its files to use here."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.edge.bundle import Bundle, open_bundle
from finicky.edge.inspect import inspect_photo
from finicky.errors import UsageError
from finicky.images import read_image
from finicky.patterns import pattern_tiles
from finicky.progress import Progress, silent
from finicky.timing import LatencyComparison, LatencyStats, environment, measure_in_turn

FLOAT, INT8, UNPRUNED = "model.onnx", "model.int8.onnx", "unpruned"
MOST_PHOTOS = 20


@dataclass(frozen=True)
class Timed:
    """One model at one batch size and number of threads.

    ``times_faster``: the reference's time over its own, measured in turn, with its 95 % interval;
    ``None`` for the reference itself.
    """

    model: str
    stats: LatencyStats
    times_faster: tuple[float, float, float] | None


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes:
        bundle: Its name.
        reference: What times are compared with: ``unpruned`` if given, else the float file.
        rows: By batch, threads and model.
        use: The model file to use here.
        why: The reason, for people.
        photos_per_second: Decoding, tiling, inference and merging included, on all cores; ``None``
            without photos.
        photos: How many were timed.
        peak_memory_mb: Of this process, everything included; ``None`` where the system hides it.
        environment: Processor, cores, versions.
    """

    bundle: str
    reference: str
    rows: tuple[Timed, ...]
    use: str
    why: str
    photos_per_second: float | None
    photos: int
    peak_memory_mb: float | None
    environment: dict[str, str | int]

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return asdict(self)


def bench(
    name_or_path: str | Path,
    *,
    against: Path | None = None,
    photos: Sequence[Path] = (),
    batch: int = 16,
    seconds: float = 2.0,
    progress: Progress = silent,
) -> Bench:
    """Time a bundle's models in turn, at batch 1 and ``batch``, with one thread and all cores.

    Args:
        name_or_path: As `open_bundle` takes it.
        against: ONNX file of the unpruned network, for the ratio that matters.
        photos: Files to inspect as ``predict`` does, at most 20 of them.
        batch: Tiles in one call, at least 2.
        seconds: For each comparison.
        progress: Told of each comparison.

    Raises:
        UsageError: A number is out of range, or there is no such bundle.
        DataError: A file is damaged, or the unpruned network takes other tiles.
    """
    if batch < 2:
        raise UsageError(f"batch must be at least 2 (1 is always timed), got {batch}")
    opened = open_bundle(name_or_path)
    models = _models(opened)
    reference = Path(against) if against else models[0]
    timed = [m for m in models if m != reference]
    # Bundles and runs call all their files model.onnx.
    label = UNPRUNED if against else reference.name
    tiles = np.resize(pattern_tiles(opened.tile_px), (batch, opened.tile_px, opened.tile_px, 3))
    rows: list[Timed] = []
    ways = [(size, threads) for size in (1, batch) for threads in (1, 0)]
    for done, (size, threads) in enumerate(ways, start=1):
        report = measure_in_turn(
            reference,
            timed,
            inputs=tiles[:size],
            threads=threads,
            seconds_per_candidate=seconds,
        )
        rows.append(Timed(label, report.reference, None))
        rows += [_row(one) for one in report.candidates]
        progress("timing", done, len(ways))
    use, why = _advice(opened, models, tiles[:1], seconds)
    rate = _photos_per_second(open_bundle(opened.path), photos[:MOST_PHOTOS]) if photos else None
    return Bench(
        opened.name,
        label,
        tuple(rows),
        use,
        why,
        rate,
        min(len(photos), MOST_PHOTOS),
        _peak_memory(),
        environment(),
    )


def _models(bundle: Bundle) -> list[Path]:
    """The float file first, then the 8-bit one; both are checked by opening them."""
    folder = bundle.path.parent
    if not (folder / "bundle.json").is_file():
        return [bundle.path]
    found = [folder / n for n in (FLOAT, INT8) if (folder / n).is_file()]
    return [open_bundle(folder, model=path.name).path for path in found] or [bundle.path]


def _row(one: LatencyComparison) -> Timed:
    return Timed(one.path.name, one.stats, (one.ratio, one.ratio_low, one.ratio_high))


def _advice(
    bundle: Bundle, models: Sequence[Path], tile: np.ndarray, seconds: float
) -> tuple[str, str]:
    """The faster file among those that were found accurate when the bundle was made."""
    if len(models) == 1:
        return models[0].name, "it is the only model"
    problem = _int8_problem(bundle.path.parent)
    if problem:
        return FLOAT, f"the 8-bit file was not accurate enough: {problem}"
    report = measure_in_turn(models[0], models[1:], inputs=tile, seconds_per_candidate=seconds)
    one = report.candidates[0]
    if one.ratio_low > 1:
        return INT8, f"it is {one.ratio:.2f} times as fast here, and as accurate within its limits"
    return FLOAT, f"8 bits are not surely faster here ({one.ratio:.2f} times as fast)"


def _int8_problem(folder: Path) -> str:
    from finicky.files import read_json

    path = folder / "verification.json"
    found = read_json(path) if path.is_file() else {}
    return str(found.get("int8_problem") or "") if isinstance(found, dict) else ""


def _photos_per_second(bundle: Bundle, photos: Sequence[Path]) -> float:
    inspect_photo(bundle, read_image(photos[0]))  # warm-up
    began = time.perf_counter()
    for path in photos:
        inspect_photo(bundle, read_image(path))
    return len(photos) / (time.perf_counter() - began)


def _peak_memory() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
