"""Enough to build an unpruned network again, in another process, without the file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from finicky.errors import DataError, UnsupportedModelError
from finicky.files import sha256_bytes, write_bytes

BLOB = "architecture.bin"

# Features, and the head that follows them (None where the network has none); weights are fresh.
Built = tuple[nn.Module, nn.Module | None]

# Each builder takes a Blueprint and gives a `Built`, or the features alone. It is imported only
# when asked for; it runs no code from the blueprint, however that was made up.
_BUILDERS = {
    "builtin": "finicky.backbones.registry:build_builtin",
    "zoo": "finicky.backbones.zoo:build",
    "keras": "finicky.backbones.keras:build",
    "onnx": "finicky.backbones.onnx_graph:build",
    "program": "finicky.backbones.program:build",
    # Of a floor above, named and never imported here.
    "pruned": "finicky.pruning.store:build_pruned",
    "truncated": "finicky.backbones.truncation:build",
}


@dataclass(frozen=True)
class Blueprint:
    """How to build a network's unpruned module again.

    Attributes:
        kind: ``builtin``, ``zoo``, ``keras``, ``onnx``, ``program``, ``pruned`` or ``truncated``.
        spec: What the builder needs, as plain small JSON.
        blob: What does not fit into JSON, such as a graph without its weights.
    """

    kind: str
    spec: dict[str, Any] = field(default_factory=dict)
    blob: bytes = b""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the blob, if there is one, as ``architecture.bin``; returns the rest for JSON."""
        if self.blob:
            write_bytes(folder / BLOB, self.blob)
        return {
            "kind": self.kind,
            "spec": self.spec,
            "blob_sha256": sha256_bytes(self.blob) if self.blob else None,
        }

    @classmethod
    def load(cls, value: Any, folder: Path, origin: Path) -> Blueprint:
        """The inverse of `save`; anything amiss is a `DataError` that names ``origin``."""
        try:
            kind, spec, digest = value["kind"], value["spec"], value["blob_sha256"]
        except (KeyError, TypeError) as error:
            raise DataError(f"{origin} is damaged: its blueprint lacks {error}") from error
        if not isinstance(kind, str) or not isinstance(spec, dict):
            raise DataError(f"{origin} is damaged: its blueprint has no kind and spec")
        return cls(kind, spec, _read_blob(folder / BLOB, digest, origin) if digest else b"")


def build(blueprint: Blueprint) -> Built:
    """The unpruned features and head with fresh weights.

    Raises:
        DataError: No kind of that name.
        UnsupportedModelError: This installation cannot build that kind.
    """
    if blueprint.kind not in _BUILDERS:
        raise DataError(
            f"no network of kind {blueprint.kind!r} is known, only {', '.join(_BUILDERS)}: "
            "update Finicky"
        )
    built = find_function(_BUILDERS[blueprint.kind], f"networks of kind {blueprint.kind}")(
        blueprint
    )
    return (built, None) if isinstance(built, nn.Module) else built


def find_function(place: str, what: str) -> Any:
    """The function at ``module:name``; a module that is not there is said in one line."""
    module, name = place.split(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UnsupportedModelError(f"this version of Finicky cannot read {what}") from error


def _read_blob(path: Path, digest: object, origin: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if sha256_bytes(content) != digest:
        raise DataError(f"{path} is not the file that {origin.name} describes: its hash differs")
    return content
