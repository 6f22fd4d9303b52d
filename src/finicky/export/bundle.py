"""One verified folder from a run: models, their metadata, a card, a recipe, hashes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from finicky.errors import DataError, FinickyError, UsageError
from finicky.evaluation import Interval
from finicky.export import card, others
from finicky.export.answers import Answers, ask_onnx, quality
from finicky.export.int8 import Judgement, Labelled, Limits, Quantised, judge, make_int8
from finicky.export.onnx_file import write_metadata
from finicky.export.parity import Verification, verify
from finicky.export.quantise import calibration_rows
from finicky.export.source import MODEL, Source, load_classifier, open_source
from finicky.files import sha256_file, write_json, write_text
from finicky.patterns import pattern_tiles
from finicky.progress import Progress, silent
from finicky.spool import Spool
from finicky.timing import LatencyComparison, environment, measure_in_turn
from finicky.training import read_tiles

INT8, BUNDLE, SUMS, EVIDENCE = "model.int8.onnx", "bundle.json", "SHA256SUMS", "verification.json"
PARITY_TILES = 256
SECONDS = 2.0


@dataclass(frozen=True)
class BundleOptions:
    """What goes into a bundle.

    Attributes:
        name: For people; empty: the folder's.
        int8: Whether to make the 8-bit file.
        allow_inexact: Write a bundle whose file disagrees with PyTorch by more than 1e-5, and say
            so on its card.
        openvino: Also an OpenVINO model, where the package is installed.
        seconds: For each comparison of times; 0: none, and the float file is preferred.
    """

    name: str = ""
    int8: bool = True
    allow_inexact: bool = False
    openvino: bool = False
    seconds: float = SECONDS


@dataclass(frozen=True)
class Times:
    """Two comparisons in turn, at one thread and at all cores: ``{"one": ..., "all": ...}``.

    ``unpruned``: the float file against the unpruned network; ``int8``: the 8-bit file against the
    float file. Empty where there is nothing to compare with.
    """

    unpruned: dict[str, LatencyComparison]
    int8: dict[str, LatencyComparison]


@dataclass(frozen=True)
class Findings:
    """All that was measured for a bundle.

    Attributes:
        parity: The float file against PyTorch.
        quality: Metrics with intervals by file and split.
        int8: The recipe; ``None`` where there is no 8-bit file.
        judged: The 8-bit file against the float one, by split.
        int8_problem: Why there is no 8-bit file, or why it is not preferred; empty if neither.
        times: Measured in turn.
        preferred: The file to use.
    """

    parity: Verification
    quality: dict[str, dict[str, dict[str, Interval]]]
    int8: Quantised | None
    judged: dict[str, Judgement]
    int8_problem: str
    times: Times
    preferred: str


@dataclass(frozen=True)
class BundleResult:
    """A finished bundle.

    Attributes:
        path: Its folder.
        source: What it was made from.
        findings: What was measured.
        files: Size in bytes by name.
        todo: What only people can fill in on the card.
        notes: What else was asked for and could not be written, each with the reason.
    """

    path: Path
    source: Source
    findings: Findings
    files: dict[str, int]
    todo: tuple[str, ...]
    notes: tuple[str, ...]


def export_bundle(
    run: Path,
    out: Path,
    *,
    candidate: str | None = None,
    options: BundleOptions = BundleOptions(),
    force: bool = False,
    progress: Progress = silent,
) -> BundleResult:
    """Write the chosen candidate of a run as a bundle; it appears whole or not at all.

    Args:
        run: Run folder.
        out: The bundle's folder, new or empty.
        candidate: Another candidate than the chosen one, as ``keep-0.2``.
        options: What goes in.
        force: Replace an earlier bundle.
        progress: Told of each stage.

    Raises:
        UsageError: No run, no such candidate, or ``out`` is taken.
        DataError: The run is damaged or lacks tiles.
        FinickyError: The file disagrees with PyTorch, or a deliberate mistake was not noticed.
    """
    out = Path(out)
    _check_free(out, force)
    source = open_source(Path(run), candidate)
    with _staged(out) as stage:
        findings = _models(source, stage, options, progress)
        notes = others.write_others(stage, options.openvino, source.tile)
        todo = card.write_texts(stage, source, findings, name=options.name or out.resolve().name)
        _close(stage, source, findings, options.name or out.resolve().name)
    sizes = {p.name: p.stat().st_size for p in sorted(out.iterdir()) if p.is_file()}
    return BundleResult(out, source, findings, sizes, todo, notes)


def _models(source: Source, stage: Path, options: BundleOptions, progress: Progress) -> Findings:
    model, small = stage / MODEL, stage / INT8
    shutil.copyfile(source.model, model)
    told = source.note.get("thresholds", {})
    limits = Limits(source.threshold, tuple(told[n] for n in ("map_high", "map_low") if n in told))
    with Spool() as first, Spool() as second, Spool() as third:
        validation = _labelled(source, "validation", first, progress)
        test = _labelled(source, "test", second, progress)
        parity = _verified(source, model, validation, options, progress)
        expected = {n: ask_onnx(model, s.tiles) for n, s in _both(validation, test)}
        made, judged, problem, found = None, {}, "", dict[str, Answers]()
        if options.int8:
            train = source.of("train")
            rows = calibration_rows(source.labels(train), seed=0)
            seen = read_tiles([train[i].path for i in rows], third, size=source.tile)
            try:
                made = make_int8(
                    model,
                    small,
                    calibration=seen,
                    validation=validation,
                    expected=expected["validation"],
                    limits=limits,
                    progress=progress,
                )
            except FinickyError as error:
                problem = str(error)
        if made is not None:
            found = {n: ask_onnx(small, s.tiles) for n, s in _both(validation, test)}
            judged = {
                n: judge(s.labels, expected[n], found[n], limits)
                for n, s in _both(validation, test)
            }
            problem = "; ".join(judged["validation"].failures)
        times = _times(source, model, small, np.array(validation.tiles[:1]), options.seconds)
        preferred = MODEL
        if made is not None and not problem:
            preferred = INT8 if _faster(times) else MODEL
        scores = {
            name: {
                n: quality(s.labels, a[n], s.groups, threshold=limits.tile)
                for n, s in _both(validation, test)
            }
            for name, a in ((MODEL, expected), (INT8, found))
            if a
        }
    findings = Findings(parity, scores, made, judged, problem, times, preferred)
    for path in (model, small):
        if path.is_file():
            write_metadata(path, _note(source, findings, path.name))
    return findings


def _both(validation: Labelled, test: Labelled) -> tuple[tuple[str, Labelled], ...]:
    return (("validation", validation), ("test", test))


def _labelled(source: Source, split: str, spool: Spool, progress: Progress) -> Labelled:
    samples = source.of(split)
    if not samples:
        raise DataError(f"{source.root / 'tiles'} holds no {split} tiles: the run needs its tiles")
    tiles = read_tiles([s.path for s in samples], spool, size=source.tile, progress=progress)
    return Labelled(tiles, source.labels(samples), np.array([s.group for s in samples]))


def _verified(
    source: Source,
    model: Path,
    validation: Labelled,
    options: BundleOptions,
    progress: Progress,
) -> Verification:
    """Parity from the image files on; raises unless it holds, or may be missed."""
    count = min(PARITY_TILES, len(validation.tiles))
    rows = np.linspace(0, len(validation.tiles) - 1, count).astype(int)
    samples = source.of("validation")
    progress("compare with PyTorch", 0, 1)
    found = verify(
        load_classifier(source),
        model,
        [samples[i].path for i in rows],
        np.array(validation.tiles[rows]),
    )
    progress("compare with PyTorch", 1, 1)
    if found.controls_found < len(found.controls):
        missed = [name for name, value in found.controls.items() if value <= found.tolerance]
        raise FinickyError(
            f"the comparison with PyTorch did not notice a deliberate mistake ({missed[0]}), so "
            f"it proves nothing for {source.candidate}: choose another candidate"
        )
    if not found.exact and not options.allow_inexact:
        mapped = max(case.map_difference or 0.0 for case in found.cases)
        where = (
            "cell of the map"
            if mapped == found.difference
            else f"logit: its head multiplies rounding {found.amplification:.0f} times"
        )
        raise FinickyError(
            f"{source.candidate} answers differently in ONNX Runtime and PyTorch, by "
            f"{found.difference:.1e} ({found.tolerance:.0e} allowed) of the largest {where}. "
            "Choose another candidate, or write it anyway with --allow-inexact"
        )
    return found


def _times(source: Source, model: Path, small: Path, tile: np.ndarray, seconds: float) -> Times:
    if seconds <= 0:
        return Times({}, {})

    def compare(reference: Path, path: Path, threads: int) -> LatencyComparison:
        report = measure_in_turn(
            reference, [path], inputs=tile, threads=threads, seconds_per_candidate=seconds
        )
        return report.candidates[0]

    full = source.unpruned_model
    ways = {"one": 1, "all": 0}
    return Times(
        {w: compare(full, model, n) for w, n in ways.items()} if full else {},
        {w: compare(model, small, n) for w, n in ways.items()} if small.is_file() else {},
    )


def _faster(times: Times) -> bool:
    """Whether the 8-bit file is surely faster here, at one thread."""
    return bool(times.int8) and times.int8["one"].ratio_low > 1


def _note(source: Source, findings: Findings, file: str) -> dict[str, Any]:
    """The ``finicky`` entry: what the run wrote, and what is known since."""
    splits = findings.quality[file]
    exact = findings.parity
    note = dict(source.note) | {
        "schema": 2,
        "precision": "int8" if file == INT8 else "float32",
        "metrics": {
            split: {name: _plain(interval) for name, interval in found.items()}
            for split, found in splits.items()
        },
        "parity": {"difference": exact.difference, "tiles": exact.tiles, "exact": exact.exact},
        "training": {
            "tiles": source.counts(),
            "data_sha256": source.run["conditions"]["data_sha256"],
        },
        "licence": source.note["provenance"]["license"],
        "tool": environment(),
    }
    note.setdefault("thresholds", {"tile": source.threshold})
    note.setdefault("task", "classify")
    note.setdefault("overlap", 0.5)
    note.setdefault("mm_per_px", None)
    return note


def _plain(interval: Interval) -> list[float | None]:
    values = (interval.value, interval.low, interval.high)
    return [None if np.isnan(v) else float(v) for v in values]


def _close(stage: Path, source: Source, findings: Findings, name: str) -> None:
    """The evidence, the sums, and last of all ``bundle.json``."""
    write_json(stage / EVIDENCE, evidence(findings))
    names = sorted(p.relative_to(stage).as_posix() for p in stage.rglob("*") if p.is_file())
    sums = {n: sha256_file(stage / n) for n in names}
    write_text(stage / SUMS, "".join(f"{value}  {n}\n" for n, value in sums.items()))
    patterns = pattern_tiles(source.tile)
    answers = {
        n: [float(p) for p in ask_onnx(stage / n, patterns).target]
        for n in (MODEL, INT8)
        if n in sums
    }
    value = {
        "schema": 1,
        "name": name,
        "preferred": findings.preferred,
        "files": sums | {SUMS: sha256_file(stage / SUMS)},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        # What each model answers on `finicky.patterns`, for a device to compare with.
        "self_check": answers,
    }
    write_json(stage / BUNDLE, value)


def evidence(findings: Findings) -> dict[str, Any]:
    """``verification.json``: all that was compared, as plain values."""
    times = {
        kind: {way: _told(c) for way, c in compared.items()}
        for kind, compared in vars(findings.times).items()
    }
    return {
        "parity": findings.parity.to_json(),
        "int8": findings.int8.to_json() if findings.int8 else None,
        "int8_against_float": {k: asdict(v) for k, v in findings.judged.items()},
        "int8_problem": findings.int8_problem,
        "times": times,
        "preferred": findings.preferred,
        "environment": environment(),
    }


def _told(compared: LatencyComparison) -> dict[str, Any]:
    ends = (compared.ratio_low, compared.ratio_high)
    return {
        "stats": asdict(compared.stats),
        "reference": asdict(compared.reference),
        "times_faster": compared.ratio,
        "interval": [None if np.isnan(end) else end for end in ends],
    }


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out needs a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / BUNDLE).is_file():
        raise UsageError(f"{out} holds other files and no bundle: choose a new or empty folder")
    if not force:
        raise UsageError(f"{out} holds a bundle already: choose another folder, or --force")


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place when all of it is written."""
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name[:60]}.", suffix=".tmp", dir=out.parent))
    except OSError as error:
        raise DataError(f"could not write {out}: {error.strerror or error}") from error
    try:
        stage.chmod(0o755)
        yield stage
        if hasattr(os, "sync"):
            os.sync()
        _swap(stage, out)
    except OSError as error:
        raise DataError(f"could not write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _swap(stage: Path, out: Path) -> None:
    if not out.exists():
        stage.rename(out)
        return
    old = stage.with_suffix(".old")
    out.rename(old)
    stage.rename(out)
    shutil.rmtree(old, ignore_errors=True)
