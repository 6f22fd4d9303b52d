"""A run folder: what lies where, what is finished, and whether it may be gone on with."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.errors import DataError, StorageError, UsageError
from finicky.files import (
    read_json,
    read_sealed,
    remove_leftovers,
    sha256_file,
    unwritable,
    write_sealed,
)
from finicky.images import printable
from finicky.locks import sole_owner
from finicky.sweep.journal import Journal

SEARCH = "search.json"
RUN, JOURNAL, RESULTS, REPORT = "run.json", "journal.jsonl", "results.csv", "report.html"
METRICS, FAILED, PREDICTIONS = "metrics.json", "failed.json", "predictions.npz"
HEAD, ONNX, LATENCY, IMPORTANCE = "head.safetensors", "model.onnx", "latency.json", "importance.npz"
SCRATCH = ".scratch"
TRAINING = ".training"  # among the candidates: what interrupted trainings go on from
DEPTH = "depth.json"
STARTED, DONE = "started", "done"  # in the journal
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

    @property
    def journal(self) -> Journal:
        return Journal(self.root / JOURNAL)

    @property
    def done(self) -> bool:
        """Whether the last start came to its end."""
        ends = [r["event"] for r in self.journal.read()[0] if r["event"] in (STARTED, DONE)]
        return ends[-1:] == [DONE]

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder for this process; one that was made for nothing is taken away again.

        Raises:
            UsageError: It is a file, or holds something else than a run.
            DataError: Another process works in it.
        """
        self._refuse_foreign()
        made = not self.root.exists()
        try:
            with sole_owner(self.root):
                yield
        finally:
            if made and self.root.is_dir() and not _visible(self.root):
                shutil.rmtree(self.root, ignore_errors=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for what processes of this run share; it and unfinished candidates go after."""
        place = self.root / SCRATCH
        try:
            remove(place)
            place.mkdir()
        except OSError as error:
            raise unwritable(place, error) from error
        try:
            yield place
        finally:
            self._tidy()

    def _tidy(self) -> None:
        """Take away what only a run that is going on needs, and candidates that were dropped."""
        shutil.rmtree(self.root / SCRATCH, ignore_errors=True)
        for here in self.root.glob("candidates/[!.]*"):
            if not any((here / file).is_file() for file in (METRICS, FAILED)):
                shutil.rmtree(here, ignore_errors=True)
        with suppress(OSError):  # not there, or not empty
            (self.root / "candidates" / TRAINING).rmdir()

    def note_end(self, error: BaseException) -> None:
        """Write down why a run ended early, if there is still room for it."""
        if self.journal.path.is_file():
            with suppress(DataError):
                self.journal.append("stopped", reason=f"{type(error).__name__}: {error}")

    def open(self, conditions: dict[str, Any], *, force: bool = False) -> None:
        """Make sure that work under ``conditions`` can go on here.

        What a killed process left half is cleared away.

        Args:
            conditions: What every number depends on: settings and hashes of the data.
            force: Throw away what an earlier run under other conditions left.

        Raises:
            UsageError: The folder holds something else, or a run under other conditions.
        """
        self._refuse_foreign()
        path = self.root / RUN
        # Without run.json nobody can say under which conditions leftovers were made.
        differing = ["run.json"]
        if path.is_file():
            differing = differences(read_json(path).get("conditions", {}), conditions)
            if differing and not force:
                raise UsageError(
                    f"{self.root} holds a run with other {', '.join(differing)}: choose another "
                    "--out folder, or --force to start it anew"
                )
        if differing:
            self.clear()
        remove_leftovers(self.root)
        self._tidy()

    def clear(self) -> None:
        """Remove what a run wrote, and nothing else; what vouches for other files goes first."""
        for path in (
            *self.root.glob("candidates/*/" + METRICS),
            self.tiles / "tiles.csv",
            self.crops / "crops.csv",
        ):
            remove(path)
        for name in ("candidates", "selected", "tiles", "crops", "gallery"):
            remove(self.root / name)
        for name in (RESULTS, REPORT, IMPORTANCE, DEPTH, LATENCY, SEARCH, JOURNAL, RUN):
            remove(self.root / name)

    def record(self, what: str, files: Iterable[Path]) -> None:
        """Note in the journal that a step is done, and the hashes of the files that it made."""
        hashes = {
            p.relative_to(self.root).as_posix(): sha256_file(p)
            for p in sorted(files)
            if p.is_file()
        }
        self.journal.append("made", what=what, files=hashes)

    def changed(self, what: str) -> list[str] | None:
        """Files of a step that are missing or not as it left them; ``None``: it was never done."""
        records, _ = self.journal.read()
        made = [r["files"] for r in records if r["event"] == "made" and r["what"] == what]
        return self._changed(made[-1]) if made else None

    def finished(self, name: str) -> dict[str, Any] | None:
        """A candidate's ``metrics.json``, if it is there and all its files are those it names."""
        return self.metrics(name) if self.changed_in(name) == [] else None

    def metrics(self, name: str) -> dict[str, Any]:
        """What a finished candidate's ``metrics.json`` holds."""
        return read_sealed(self.candidate(name) / METRICS)

    def changed_in(self, name: str) -> list[str] | None:
        """Files of a candidate that are not as it left them; ``None``: it was never finished."""
        here = self.candidate(name)
        prefix = here.relative_to(self.root).as_posix()
        if not (here / METRICS).is_file():
            return None
        try:
            hashes: dict[str, str] = read_sealed(here / METRICS)["files"]
        except (DataError, KeyError):
            return [f"{prefix}/{METRICS}"]
        names = {**dict.fromkeys(CANDIDATE_FILES, ""), **hashes}
        return self._changed({f"{prefix}/{file}": expected for file, expected in names.items()})

    def finish(self, name: str, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write a candidate's ``metrics.json``, last, with the hashes of its other files."""
        folder = self.candidate(name)
        remove_leftovers(folder)  # of a worker that was killed over it
        for file in (FAILED, METRICS):
            remove(folder / file)
        hashes = {p.name: sha256_file(p) for p in sorted(folder.iterdir()) if p.is_file()}
        write_sealed(folder / METRICS, metrics | {"files": hashes})
        self.journal.append("finished", candidate=name)
        return metrics

    def fail(self, name: str, reason: str, *, final: bool) -> None:
        """Note that a candidate cannot be made; ``final``: another try would end the same way."""
        self.discard(name)
        write_sealed(self.candidate(name) / FAILED, {"reason": reason, "final": final})
        self.journal.append("failed", candidate=name, reason=reason)

    def failed(self, name: str) -> str | None:
        """Why a candidate cannot be made, if that is known for good."""
        path = self.candidate(name) / FAILED
        try:
            value = read_sealed(path)
        except DataError:
            return None
        return str(value["reason"]) if value.get("final") else None

    def discard(self, name: str) -> None:
        """Take away what there is of an unfinished candidate."""
        remove(self.candidate(name) / METRICS)
        remove(self.candidate(name))

    def _changed(self, hashes: Mapping[str, str]) -> list[str]:
        def same(path: Path, expected: str) -> bool:
            try:
                return sha256_file(path) == expected
            except OSError:
                return False

        return [file for file, expected in hashes.items() if not same(self.root / file, expected)]

    def _refuse_foreign(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is a file; --out needs a folder")
        if self.root.is_dir() and not (self.root / RUN).is_file() and _foreign(self.root):
            raise UsageError(
                f"{self.root} holds other files and no run: choose a new or empty --out folder"
            )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file; a missing or damaged one is a `DataError`."""
    try:
        # Opened here, because numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot read {printable(path)}: {reason}. Start the same run again to restore it"
        ) from error


def remove(place: Path) -> None:
    """Take a file or a folder away, if it is there."""
    try:
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"could not remove {place}: {error.strerror or error}. Close what has its files open, "
            "or choose another --out folder"
        ) from error


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which conditions differ, each with what it was and is where that says something."""
    plain = json.loads(json.dumps(now))  # JSON makes lists of tuples, which is no difference
    names = sorted(k for k in {*before, *plain} if before.get(k) != plain.get(k))
    return [f"{name}{_between(name, before.get(name), plain.get(name))}" for name in names]


_MEANING = {
    "code_sha256": "Finicky's own code",
    "data_sha256": "photos, masks, classes or split",
    "weights_sha256": "the backbone's weights",
}


def _between(name: str, before: Any, now: Any) -> str:
    if name in _MEANING:
        return f" ({_MEANING[name]})"
    if isinstance(before, dict) and isinstance(now, dict):
        changed = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
        return f" ({', '.join(f'{k} {before.get(k)} then, {now.get(k)} now' for k in changed)})"
    return f" ({before} then, {now} now)"


def _foreign(root: Path) -> bool:
    """Whether anything in the folder is not what a run leaves whose ``run.json`` is missing."""
    ours = {"tiles", "crops", "candidates", "selected", "gallery", "project"}
    if any((root / name).is_dir() for name in ("tiles", "candidates")):
        ours |= {RESULTS, REPORT, IMPORTANCE, DEPTH, LATENCY, SEARCH, JOURNAL}
    return any(name not in ours for name in _visible(root))


def _visible(root: Path) -> list[str]:
    return [p.name for p in root.iterdir() if not p.name.startswith(".")]
