"""The code that a run's numbers come from: Finicky's own, and the packages that compute."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import finicky

PACKAGES = (
    *("numpy", "onnx", "onnxruntime", "onnxscript", "pillow", "safetensors", "scikit-learn"),
    *("scipy", "torch", "torch-pruning"),
)
# Rooms that no number of a sweep comes from.
_ELSEWHERE = {"cli", "edge", "labeler", "models", "report", "web"}


def packages() -> dict[str, str]:
    """Versions of what computes; another one may change the last bits, or more."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_sha256() -> str:
    """Hash of the sources that a sweep runs through, so that a changed checkout is noticed."""
    root = Path(finicky.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in _ELSEWHERE:
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
