"""The state of a training as one file of tensors and plain values: safetensors, no objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from finicky.errors import DataError
from finicky.files import write_tensors

_ABOUT, _STATE = "about", "state"


def write_state(path: Path, state: Any, *, about: str = "") -> None:
    """Write dicts, lists, texts, numbers and tensors, nested as they like; whole or not at all.

    Args:
        path: The file.
        state: Of an optimizer, say. Keys of dicts may be integers; tuples become lists.
        about: What it belongs to.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(state, tensors))
    write_tensors(path, save(tensors, metadata={_ABOUT: about, _STATE: text}))


def read_state(path: Path) -> tuple[Any, str]:
    """What `write_state` wrote, and what it is about.

    Raises:
        DataError: It is missing, or not as it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _unpack(json.loads(notes[_STATE]), tensors), notes[_ABOUT]
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is no state of a training, or is damaged") from error


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"pairs": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pack(item, tensors) for item in value]
    return value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _unpack(item, tensors) for key, item in value["pairs"]}
