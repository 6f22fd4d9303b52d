"""The exported folder, opened and checked: which model file to run, and what it says of itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from finicky.classes import DEFAULT_CLASSES
from finicky.errors import DataError, ShapeError, UsageError, nearest_names
from finicky.files import read_json, sha256_bytes
from finicky.flatness import restore_probabilities, restore_probability
from finicky.images import printable
from finicky.timing import load_problem

BUNDLE, MODEL = "bundle.json", "model.onnx"
BUNDLE_SCHEMA = 1
METADATA_KEY = "finicky"
NEWEST_SCHEMA = 2
INPUT, PROBABILITIES, MAP = "tiles", "probabilities", "map"
DEFAULT_OVERLAP = 0.5
# No export goes further than a tenth of it.
MOST_FLATTENED = 1e4
READY_MADE = Path(__file__).parent.parent / "models"

_EXPORT_AGAIN = "Copy the bundle again from its source, or export it again with finicky export."


@dataclass(frozen=True)
class Target:
    """The class that is looked for: its id in masks, its name, its colour as ``#RRGGBB``."""

    id: int
    name: str
    color: str


@dataclass(frozen=True)
class Thresholds:
    """From which probability on something counts as target, each in (0, 1).

    Attributes:
        tile: Of a tile's probability.
        map_high: A region of the map must reach this somewhere; ``None`` without a map.
        map_low: And everywhere this, at most ``map_high``; ``None`` without a map.
        min_area_px: And cover so much of the photo.
        map_flattened: By how much the logits of the file's own map are smaller; 1: not at all.
    """

    tile: float
    map_high: float | None = None
    map_low: float | None = None
    min_area_px: float = 0.0
    map_flattened: float = 1.0


@dataclass(frozen=True)
class Session:
    """A model that is ready to run; may be used from several threads at once."""

    inference: Any
    tile_px: int
    has_map: bool

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Look at tiles; a map that is flat in the file stays so (`Thresholds.map_flattened`).

        Args:
            tiles: ``(N, S, S, 3)`` uint8 RGB, N at least 1, S the bundle's ``tile_px``.

        Returns:
            ``(N, 2)`` float32 probabilities (not target, target), and, where the model has a map,
            ``(N, h, w)`` float32 in [0, 1], the probability that a cell is target; else ``None``.
        """
        side = self.tile_px
        if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[1:] != (side, side, 3):
            raise ShapeError(
                f"tiles must be (N, {side}, {side}, 3) uint8, got {tiles.shape} {tiles.dtype}"
            )
        wanted = [PROBABILITIES, MAP] if self.has_map else [PROBABILITIES]
        found = self.inference.run(wanted, {INPUT: np.ascontiguousarray(tiles)})
        return found[0], found[1] if self.has_map else None


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; `open_bundle` makes one.

    Attributes:
        path: The model file that is used.
        name: For people: the bundle's own, else that of its folder or file.
        sha256: Of the model file, in hexadecimal.
        tile_px: Side of a tile in px.
        classes: Names of the two outputs: not target, target.
        target: What is looked for.
        thresholds: Chosen on validation data; 0.5 where an old file does not say.
        map_px: Side of a cell of the map in px; ``None`` where the model has no map.
        overlap: Share of a tile that its neighbour covers by default, in [0, 1).
        mm_per_px: Scale of the photos it was trained on; ``None`` where unknown.
        metadata: All of the model's ``finicky`` entry.
    """

    path: Path
    name: str
    sha256: str
    tile_px: int
    classes: tuple[str, str]
    target: Target
    thresholds: Thresholds
    map_px: float | None
    overlap: float
    mm_per_px: float | None
    metadata: Mapping[str, Any]
    content: bytes = field(repr=False)
    _sessions: dict[int, Session] = field(default_factory=dict, repr=False, compare=False)

    def session(self, threads: int = 0) -> Session:
        """The model, loaded once for each number of threads; 0: one a processor core."""
        if threads < 0:
            raise UsageError(f"threads must be 0 (all cores) or more, got {threads}")
        if threads not in self._sessions:
            inference = _load(self.path, self.content, threads=threads)
            self._sessions[threads] = Session(inference, self.tile_px, self.map_px is not None)
        return self._sessions[threads]

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """`Session.run` on all cores, a map as probabilities on the scale of ``thresholds``."""
        probabilities, found = self.session().run(tiles)
        if found is not None:
            found = restore_probabilities(found, self.thresholds.map_flattened)
        return probabilities, found


def open_bundle(name_or_path: str | Path, *, model: str | None = None) -> Bundle:
    """Open a bundle and check it: file hash, metadata, inputs and outputs.

    Args:
        name_or_path: A bundle folder, a run folder or its ``selected`` folder, an ``.onnx`` file
            that Finicky wrote, or the name of a ready-made model. A path that exists wins.
        model: Another model file of the bundle than the preferred one, as ``model.int8.onnx``.

    Raises:
        UsageError: There is nothing of that name.
        DataError: It is damaged, incomplete, of a newer version, or no model of ours.
    """
    path, name, expected = _model_file(Path(name_or_path), model)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {printable(path)}: {error.strerror}. {_EXPORT_AGAIN}") from (
            error
        )
    sha256 = sha256_bytes(content)
    if expected is not None and sha256 != expected:
        raise DataError(
            f"{printable(path)} is not the file that {BUNDLE} names: expected SHA-256 "
            f"{expected[:12]}..., got {sha256[:12]}... {_EXPORT_AGAIN}"
        )
    # Only to be read from: no time is spent on making it fast.
    inference = _load(path, content, threads=1, optimise=False)
    return _bundle(path, name, sha256, content, _metadata(path, inference), inference)


def ready_made() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    if not READY_MADE.is_dir():
        return ()
    return tuple(sorted(p.name for p in READY_MADE.iterdir() if (p / BUNDLE).is_file()))


def _model_file(given: Path, model: str | None) -> tuple[Path, str, str | None]:
    """The model file, a name for people, and the SHA-256 that it should have, if anything says."""
    if given.is_file():
        if model is not None:
            raise UsageError(f"{printable(given)} is a file: it holds no other model {model!r}")
        return given, given.stem, None
    folder = given
    if not given.is_dir():
        if given.name != str(given) or given.name not in ready_made():
            raise UsageError(_nothing(given))
        folder = READY_MADE / given.name
    for inside in (folder, folder / "selected"):
        if (inside / BUNDLE).is_file():
            return _listed(inside, model)
        if (inside / (model or MODEL)).is_file():
            named = folder if folder.name != "selected" else folder.resolve().parent
            return inside / (model or MODEL), named.resolve().name, None
    raise UsageError(
        f"{printable(folder)} holds neither {BUNDLE} nor {model or MODEL}: give a folder written "
        "by finicky export, or a finished run folder"
    )


def _nothing(given: Path) -> str:
    known = ready_made()
    hint = f" {nearest_names(given.name, known)}" if known else ""
    return (
        f"no bundle {printable(given)}: expected a folder written by finicky export, a run folder, "
        f"an .onnx file of Finicky's or the name of a ready-made model.{hint}"
    )


def _listed(folder: Path, model: str | None) -> tuple[Path, str, str]:
    path = folder / BUNDLE
    listing = read_json(path)
    schema = listing.get("schema") if isinstance(listing, dict) else None
    if not isinstance(schema, int):
        raise DataError(f"{printable(path)} describes no bundle. {_EXPORT_AGAIN}")
    _refuse_newer(path, schema, BUNDLE_SCHEMA)
    files, chosen = listing.get("files"), model or listing.get("preferred")
    if not isinstance(files, dict) or not isinstance(chosen, str):
        raise DataError(f"{printable(path)} names no files. {_EXPORT_AGAIN}")
    expected = files.get(chosen)
    if not isinstance(expected, str) or Path(chosen).name != chosen:
        known = [name for name in files if str(name).endswith(".onnx")]
        raise UsageError(
            f"{printable(folder)} has no model {chosen!r}. {nearest_names(chosen, known)}"
        )
    return folder / chosen, str(listing.get("name") or folder.name), expected


def _load(path: Path, content: bytes, *, threads: int, optimise: bool = True) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is said by us, in one line
    if threads == 1:
        # Several threads of ours share the cores: none should wait in a loop for work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises a dozen kinds
        reason = load_problem(error).rstrip(".")
        raise DataError(f"cannot load {printable(path)}: {reason}. {_EXPORT_AGAIN}") from error


def _metadata(path: Path, inference: Any) -> dict[str, Any]:
    text = inference.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise DataError(
            f"{printable(path)} carries no {METADATA_KEY!r} entry, so it is no model of ours: "
            "export one with finicky export"
        )
    try:
        found = json.loads(text)
        schema = int(found["schema"])
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path, f"its {METADATA_KEY!r} entry cannot be read") from error
    _refuse_newer(path, schema, NEWEST_SCHEMA)
    return dict(found)


def _refuse_newer(path: Path, schema: int, newest: int) -> None:
    if schema > newest:
        raise DataError(
            f"{printable(path)} has format {schema}, this version of Finicky reads up to {newest}. "
            "Install a newer Finicky."
        )


def _bundle(
    path: Path, name: str, sha256: str, content: bytes, found: dict[str, Any], inference: Any
) -> Bundle:
    try:
        tile_px = int(found["tile_px"])
        first, second = (str(entry) for entry in found["classes"])
        map_px = None if found.get("map_px") is None else float(found["map_px"])
        overlap = float(found.get("overlap", DEFAULT_OVERLAP))
        scale = None if found.get("mm_per_px") is None else float(found["mm_per_px"])
        target = _target(found.get("target"), second)
        thresholds = _thresholds(found.get("thresholds") or {}, has_map=map_px is not None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"its {METADATA_KEY!r} entry is incomplete ({error})") from error
    if tile_px < 1 or not 0 <= overlap < 1 or (map_px is not None and not 0 < map_px <= tile_px):
        raise _damaged(path, f"tile {tile_px} px, map {map_px} px and overlap {overlap} cannot be")
    _check_ends(path, inference, tile_px, map_px)
    return Bundle(
        path,
        name,
        sha256,
        tile_px,
        (first, second),
        target,
        thresholds,
        map_px,
        overlap,
        scale,
        found,
        content,
    )


def _target(entry: Any, name: str) -> Target:
    if entry is not None:
        return Target(int(entry["id"]), str(entry["name"]), _color(entry))
    # Files of schema 1 name only the class.
    known = next((c for c in DEFAULT_CLASSES if c.name == name), None)
    known = known or DEFAULT_CLASSES.targets()[0]
    return Target(known.id, name, known.color)


def _color(entry: Mapping[str, Any]) -> str:
    color = str(entry.get("colour") or entry.get("color"))
    if len(color) != 7 or color[0] != "#":
        raise ValueError(f"colour {color!r}")
    bytes.fromhex(color[1:])
    return color


def _thresholds(entry: Mapping[str, Any], *, has_map: bool) -> Thresholds:
    tile = float(entry.get("tile", 0.5))
    if not has_map:
        found = Thresholds(tile)
    else:
        flattened = float(entry.get("map_flattened", 1))
        if not 1 <= flattened <= MOST_FLATTENED:
            raise ValueError(f"flattened by {flattened}")
        high = float(entry.get("map_high", 0.5))
        area = float(entry.get("min_area_px", 0))
        if not (math.isfinite(area) and area >= 0):
            raise ValueError(f"smallest area {area}")
        low = float(entry.get("map_low", high))
        found = Thresholds(tile, high, low, area, flattened)
    values = [v for v in (found.tile, found.map_high, found.map_low) if v is not None]
    if not all(math.isfinite(v) and 0 < v < 1 for v in values) or values[-1] > values[-2:][0]:
        raise ValueError(f"thresholds {values}")
    if found.map_high is None or found.map_low is None:
        return found
    high, low = (restore_probability(v, flattened) for v in (found.map_high, found.map_low))
    return replace(found, map_high=high, map_low=low)


def _check_ends(path: Path, inference: Any, tile_px: int, map_px: float | None) -> None:
    inputs = {entry.name: entry for entry in inference.get_inputs()}
    outputs = {entry.name for entry in inference.get_outputs()}
    wanted = {PROBABILITIES} | ({MAP} if map_px is not None else set())
    ours = (
        set(inputs) == {INPUT}
        and inputs[INPUT].type == "tensor(uint8)"
        and list(inputs[INPUT].shape[1:]) == [tile_px, tile_px, 3]
        and wanted <= outputs
    )
    if not ours:
        shown = {name: [entry.type, entry.shape] for name, entry in inputs.items()}
        raise _damaged(
            path,
            f"expected {INPUT} (N, {tile_px}, {tile_px}, 3) uint8 in and "
            f"{' and '.join(sorted(wanted))} out, it has {shown} and {sorted(outputs)}",
        )


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{printable(path)} cannot be used: {reason}. {_EXPORT_AGAIN}")
