"""A Keras file, opened safely: what its config says, and where its weights lie."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finicky.backbones.keras.archive import CONFIG, METADATA, WEIGHTS, read_archive
from finicky.backbones.keras.hdf5 import SafeFile, open_checked
from finicky.backbones.keras.trust import check_training, parse_json
from finicky.errors import DataError, UnsupportedModelError

# Keras splits attributes above 64 kB into layer_names0, layer_names1 and so on.
_MAX_PARTS = 1_000


@dataclass
class Document:
    """An open Keras file.

    Attributes:
        name: The file's, for messages.
        version: The Keras version that wrote it, such as ``2.3.0``.
        model: The network as Keras serialised it; ``None`` in a file of weights alone.
        weights: The open HDF5 part.
        root: The group of ``weights`` below which the layers' groups lie.
        by_name: Whether layers lie under their names (``.h5`` of Keras 2 and 3) or under their
            classes, counted (``.keras`` and ``.weights.h5``).
    """

    name: str
    version: str
    model: dict[str, Any] | None
    weights: SafeFile
    root: str
    by_name: bool

    @property
    def keras_3(self) -> bool:
        """Whether Keras 3 wrote it; some functions changed their meaning."""
        found = re.match(r"\d+", self.version)
        return found is not None and int(found[0]) >= 3


@contextmanager
def open_document(path: Path) -> Iterator[Document]:
    """Open a ``.h5``, ``.keras`` or ``.weights.h5`` file.

    Raises:
        DataError, UnsupportedModelError: It is damaged, hostile, or of no known kind.
    """
    path = Path(path)
    if _is_archive(path):
        yield from _open_archive(path)
        return
    with open_checked(path, path.name) as safe:
        yield _read_hdf5(safe)


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return path.suffix == ".keras" or stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _open_archive(path: Path) -> Iterator[Document]:
    members = read_archive(path, path.name)
    config = parse_json(_decoded(members[CONFIG], path.name, CONFIG), f"{path.name}: {CONFIG}")
    metadata: Any = {}
    if METADATA in members:
        text = _decoded(members[METADATA], path.name, METADATA)
        metadata = parse_json(text, f"{path.name}: {METADATA}")
    version = metadata.get("keras_version", "3") if isinstance(metadata, dict) else "3"
    _check_root(config, path.name)
    check_training(config.get("compile_config"), path.name)
    with open_checked(io.BytesIO(members.pop(WEIGHTS)), f"{path.name}: {WEIGHTS}") as safe:
        safe.name = path.name
        yield Document(path.name, str(version), config, safe, "", False)


def _decoded(content: bytes, name: str, member: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: {member} is not UTF-8 text") from error


def _read_hdf5(safe: SafeFile) -> Document:
    version = safe.texts("", "keras_version")[0] if safe.has_texts("", "keras_version") else "2"
    if safe.has_texts("", "training_config"):
        text = "".join(safe.texts("", "training_config"))
        check_training([parse_json(text, f"{safe.name}: training_config")], safe.name)
    if safe.has_texts("", "model_config"):
        text = "".join(safe.texts("", "model_config"))
        model = parse_json(text, f"{safe.name}: model_config")
        _check_root(model, safe.name)
        if "model_weights" not in safe.groups:
            raise DataError(f"{safe.name} has a model_config and no model_weights: it is damaged")
        return Document(safe.name, version, model, safe, "model_weights", True)
    if safe.has_texts("", "layer_names") or safe.has_texts("", "layer_names0"):
        return Document(safe.name, version, None, safe, "", True)
    if any(name == "layers" or name.endswith("/vars") for name in safe.groups):
        return Document(safe.name, "3", None, safe, "", False)
    raise UnsupportedModelError(
        f"{safe.name} is an HDF5 file without a Keras network: it has neither model_config nor "
        "layers' weights"
    )


def _check_root(model: Any, name: str) -> None:
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str):
        raise DataError(f"{name}: its config is no Keras network: no class_name")


def split_texts(safe: SafeFile, group: str, attribute: str) -> list[str]:
    """A row of texts that Keras may have split over ``attribute0``, ``attribute1`` and so on."""
    if safe.has_texts(group, attribute):
        return safe.texts(group, attribute)
    found: list[str] = []
    for number in range(_MAX_PARTS):
        if not safe.has_texts(group, f"{attribute}{number}"):
            break
        found += safe.texts(group, f"{attribute}{number}")
    return found
