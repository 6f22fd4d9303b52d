"""Whether this computer and a project are ready: each check, what was found, and what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.data.pairs import find_pairs, usable_pairs
from finicky.edge.bundle import open_bundle, ready_made
from finicky.errors import DataError, FinickyError
from finicky.images import list_images, printable, read_image
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.web.listen import bound

DISTRIBUTION = "finicky-transfer-learning"
ROOM_BYTES = 2 * 1024**3
"""A run of VGG16 with all keep ratios writes about a tenth of it."""

_NOT_ASKED_FOR = frozenset({"all", "dev"})
_NEEDED = re.compile(r"^([A-Za-z0-9._-]+).*extra\s*==\s*['\"]([a-z]+)['\"]")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: ``"ok"``, ``"missing"`` (what not everybody needs, or not yet) or ``"failed"``.
        found: What was found, on one line.
        remedy: What to do; empty where all is well.
    """

    name: str
    state: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All checks, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing failed; a missing extra is no failure."""
        return all(check.state != "failed" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"ready": self.ready, "checks": [asdict(check) for check in self.checks]}


def examine(folder: str | Path | None = None, *, progress: Progress = silent) -> Diagnosis:
    """Look at Python, packages, disk, port, ready-made models, and a project.

    Args:
        folder: A project's folder; without it the working folder is only tried for writing.
        progress: Is told how many photos and masks have been read.
    """
    root = Path.cwd() if folder is None else Path(folder)
    checks = [_python(), *_extras(), _disk(root), _writing(root), _port()]
    checks += [_model(name) for name in ready_made()]
    if folder is not None:
        checks += _project(root, progress)
    return Diagnosis(tuple(checks))


def _python() -> Check:
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}, {cores} cores"
    version = importlib.metadata.version("onnxruntime")
    return Check("Python", "ok", f"{platform.python_version()}, {system}, onnxruntime {version}")


def _extras() -> Iterator[Check]:
    needed: dict[str, list[str]] = {}
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        if match := _NEEDED.match(line):
            needed.setdefault(match[2], []).append(match[1])
    for extra, packages in needed.items():
        if extra in _NOT_ASKED_FOR:
            continue
        versions = {package: _version(package) for package in packages}
        absent = [package for package, version in versions.items() if version is None]
        if absent:
            yield Check(
                f"extra {extra}",
                "missing",
                f"without {', '.join(absent)}",
                f"pip install '{DISTRIBUTION}[{extra}]' if you need it",
            )
        else:
            yield Check(f"extra {extra}", "ok", ", ".join(f"{p} {v}" for p, v in versions.items()))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _disk(root: Path) -> Check:
    place = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 1024**3:.1f} GB free at {printable(place)}"
    if free >= ROOM_BYTES:
        return Check("disk", "ok", found)
    return Check(
        "disk", "failed", found, f"make room: runs need up to {ROOM_BYTES / 1024**3:.0f} GB"
    )


def _writing(root: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"finicky")
    except OSError as error:
        found = f"cannot write to {printable(root)}: {error.strerror}"
        return Check("writing", "failed", found, "choose a folder of yours, or change its rights")
    return Check("writing", "ok", f"{printable(root)} can be written to")


def _port() -> Check:
    def listen() -> str:
        with bound("127.0.0.1", 0) as listener:
            return f"a page can be served, tried at 127.0.0.1:{listener.getsockname()[1]}"

    return _tried("port", listen, "ask who looks after this computer to allow local connections")


def _model(name: str) -> Check:
    def run() -> str:
        bundle = open_bundle(name)
        tile = np.full((1, bundle.tile_px, bundle.tile_px, 3), 128, np.uint8)
        probabilities = bundle.run(tile)[0]
        if not np.isfinite(probabilities).all():
            raise DataError("its answer is not a number")
        return "opens and answers"

    return _tried(f"model {name}", run, f"pip install --force-reinstall {DISTRIBUTION}")


def _tried(name: str, attempt: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name, "ok", attempt())
    except (FinickyError, OSError) as error:
        return Check(name, "failed", str(error).splitlines()[0], remedy)


def _project(root: Path, progress: Progress) -> list[Check]:
    try:
        project = Project.open(root)
    except FinickyError as error:
        return [Check("project", "failed", str(error), "finicky init FOLDER --photos PHOTOS")]
    found = f"{printable(project.root)}, classes {', '.join(c.name for c in project.classes)}"
    checks = [Check("project", "ok", found), _photos(project, progress)]
    if checks[-1].state == "ok":
        checks.append(_masks(project, progress))
    return checks


def _photos(project: Project, progress: Progress) -> Check:
    try:
        photos = list_images(project.photos)
    except FinickyError as error:
        return Check("photos", "failed", str(error), f"put photos into {printable(project.photos)}")
    bad: list[str] = []
    for done, path in enumerate(photos, start=1):
        try:
            read_image(path)
        except FinickyError as error:
            bad.append(str(error))
        progress("reading photos", done, len(photos))
    if bad:
        found = f"{len(bad)} of {len(photos)} cannot be read. The first: {bad[0]}"
        return Check("photos", "failed", found, "replace them or take them out")
    return Check("photos", "ok", f"all {len(photos)} can be read")


def _masks(project: Project, progress: Progress) -> Check:
    label = f"finicky label {printable(project.root)}"
    targets = project.classes.targets()
    if not project.masks.is_dir() or not list_images(project.masks, allow_empty=True):
        return Check("masks", "missing", "none yet", label)
    try:
        scan = find_pairs(project.photos, project.masks)
        pairs = usable_pairs(scan.pairs, project.classes, targets, progress=progress)
    except FinickyError as error:
        return Check("masks", "failed", str(error), f"mark some photos: {label}")
    found = f"{len(pairs.usable)} photos with a mask, {pairs.with_target} of them show the target"
    if pairs.rejected:
        found += f"; {len(pairs.rejected)} cannot be used. The first: {pairs.rejected[0].reason}"
        return Check("masks", "failed", found, "repair these masks or take them out")
    return Check("masks", "ok", found)
