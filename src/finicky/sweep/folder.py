"""A run folder: what lies where, what is finished, and whether it may be gone on with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finicky.errors import DataError, UsageError
from finicky.files import read_json, sha256_file, write_json

RUN, RESULTS, REPORT = "run.json", "results.csv", "report.html"
METRICS, PREDICTIONS = "metrics.json", "predictions.npz"
HEAD, ONNX, LATENCY, IMPORTANCE = "head.safetensors", "model.onnx", "latency.json", "importance.npz"
# What a candidate's metrics.json vouches for.
CANDIDATE_FILES = ("plan.json", "model.safetensors", HEAD, ONNX, PREDICTIONS)


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run. Nothing in it counts as finished without the file that is written last."""

    root: Path

    @property
    def tiles(self) -> Path:
        return self.root / "tiles"

    @property
    def crops(self) -> Path:
        """Parts of labelled photos with their masks, from which pixel heads are trained."""
        return self.root / "crops"

    @property
    def selected(self) -> Path:
        return self.root / "selected"

    def candidate(self, name: str) -> Path:
        return self.root / "candidates" / name

    def open(self, conditions: dict[str, Any], *, force: bool = False) -> bool:
        """Claim the folder for work under ``conditions``; true where earlier work can go on.

        Args:
            conditions: What every number depends on: settings and hashes of the data.
            force: Throw away what an earlier run under other conditions left.

        Raises:
            UsageError: The folder holds something else, or a run under other conditions.
        """
        path = self.root / RUN
        if not path.is_file():
            if self.root.exists() and not self.root.is_dir():
                raise UsageError(f"{self.root} is a file; --out needs a folder")
            if self.root.is_dir() and _foreign(self.root):
                raise UsageError(
                    f"{self.root} holds other files and no run: choose a new or empty --out folder"
                )
            # Without run.json nobody can say under which conditions leftovers were made.
            self.clear()
            return False
        before = read_json(path).get("conditions", {})
        differing = sorted(k for k in {*before, *conditions} if before.get(k) != conditions.get(k))
        if not differing:
            return True
        if not force:
            raise UsageError(
                f"{self.root} holds a run with other {', '.join(differing)}: choose another --out "
                "folder, or --force to start it anew"
            )
        self.clear()
        return False

    def clear(self) -> None:
        """Remove what a run wrote, and nothing else; what vouches for other files goes first."""
        try:
            for path in (
                *self.root.glob("candidates/*/" + METRICS),
                self.tiles / "tiles.csv",
                self.crops / "crops.csv",
            ):
                path.unlink(missing_ok=True)
            for name in ("candidates", "selected", "tiles", "crops", "gallery"):
                if (self.root / name).is_dir():
                    shutil.rmtree(self.root / name)
            for name in (RESULTS, REPORT, IMPORTANCE, LATENCY, RUN):
                (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"could not clear {self.root}: {error.strerror or error}. Close what has its files "
                "open, or choose another --out folder"
            ) from error

    def finished(self, name: str) -> dict[str, Any] | None:
        """A candidate's ``metrics.json``, if it is there and all its files are those it names."""
        folder = self.candidate(name)
        if not (folder / METRICS).is_file():
            return None
        try:
            metrics: dict[str, Any] = read_json(folder / METRICS)
            hashes = metrics["files"]
        except (DataError, KeyError, TypeError):
            return None
        whole = all(
            (folder / file).is_file() and sha256_file(folder / file) == hashes.get(file)
            for file in CANDIDATE_FILES
        )
        return metrics if whole else None

    def finish(self, name: str, metrics: dict[str, Any]) -> None:
        """Write a candidate's ``metrics.json``, last, with the hashes of its other files."""
        folder = self.candidate(name)
        hashes = {file: sha256_file(folder / file) for file in CANDIDATE_FILES}
        write_json(folder / METRICS, metrics | {"files": hashes})


def _foreign(root: Path) -> bool:
    """Whether anything in the folder is not what a run leaves whose ``run.json`` is missing."""
    ours = {"tiles", "crops", "candidates", "selected", "gallery", "project"}
    if any((root / name).is_dir() for name in ("tiles", "candidates")):
        ours |= {RESULTS, REPORT, IMPORTANCE, LATENCY}
    return any(p.name not in ours and not p.name.startswith(".") for p in root.iterdir())
