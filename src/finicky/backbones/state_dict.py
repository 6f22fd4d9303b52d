"""The tensors of a checkpoint file, whatever it was saved with; no code in it is run."""

from __future__ import annotations

import io
import json
import math
import pickletools
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from finicky.backbones.archives import Archive, first_twice
from finicky.backbones.pickles import MOST_AXES, TensorSpec, read_pickle
from finicky.errors import DataError, UnsupportedModelError, UsageError

# Where training scripts put the weights beside an optimizer's; averaged ones are what they use.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "student",
)
_LARGEST_PICKLE = 64 << 20
_LARGEST_HEADER = 16 << 20
# A small tensor may stand for a larger one of so many numbers, as those that PyTorch expands do.
_STRETCHED = 1 << 20
_MAGIC = 0x1950A86A20F9469CFC6C  # of PyTorch's files from before 1.6
_LEGACY = 1001  # their only version

# Files that are taken for checkpoints, by how they begin.
_OTHERS: dict[bytes, str] = {
    b"\x89HDF": "an HDF5 file, such as Keras writes: name it .h5",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself (git lfs pull)",
    b"<": "a web page, no file of weights: download it again",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"PK\x05\x06": "an empty archive",
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.pt`` or ``.pth`` state dict, by name.

    Of a training script's checkpoint only the network's weights are read: averaged ones where it
    has both.

    Raises:
        UsageError: The file is missing.
        DataError: It is damaged, or holds anything but tensors; the message names it.
        UnsupportedModelError: Its tensors are quantised or sparse, or it holds a program.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no weights file {path}")
    try:
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path)
        with path.open("rb") as stream:
            start = stream.read(512)
            if start.startswith(b"PK\x03\x04"):
                return _read_zip(path)
            _refuse_others(path, start)
            stream.seek(0)
            return _read_legacy(path, stream)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def strip_prefix(tensors: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Names as the network has them, where a wrapper put its own in front of all.

    ``module.`` (data parallel), ``_orig_mod.`` (compiled), ``model.`` or ``backbone.`` (a training
    class) and any others, one behind the other. What has other beginnings beside them, such as a
    loss' own numbers, is left out.

    Args:
        tensors: As the file has them.
        own: Names in the network.
    """
    known = set(own)
    # Names with many parts tell where the network begins; "weight" would do so everywhere.
    telling = set(sorted(known, key=lambda name: (-name.count("."), name))[:20])
    most = max((name.count(".") for name in telling), default=0)
    inside, candidates = Counter[str](), {""}
    for name in tensors:
        for end in _ends(name, most):
            if end in known:
                prefix = name.removesuffix(end)
                inside[prefix] += 1
                candidates |= {prefix} if end in telling else set()
    best = max(candidates, key=lambda prefix: (inside[prefix], "ema" in prefix, -len(prefix)))
    if not best:
        return dict(tensors)
    return {n[len(best) :]: t for n, t in tensors.items() if n.startswith(best)}


def _ends(name: str, most: int) -> Iterator[str]:
    """What a name ends in, from one part to ``most`` dots; the whole name last."""
    start = len(name)
    for _ in range(most + 1):
        start = name.rfind(".", 0, max(start - 1, 0)) + 1
        yield name[start:]
        if not start:
            return


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_header(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error)[:200].split())
        raise DataError(f"{path} is not a safetensors file: {reason}") from error
    if strange := [name for name, tensor in tensors.items() if tensor.is_complex()]:
        raise UnsupportedModelError(f"{path}: {strange[0]!r:.80} is of complex numbers")
    return tensors


def _check_header(path: Path) -> None:
    """Refuse names that occur twice, and a header that no network needs, before it is parsed."""
    with path.open("rb") as stream:
        raw = stream.read(8)
        length = struct.unpack("<Q", raw)[0] if len(raw) == 8 else 0
        if not 2 <= length <= min(_LARGEST_HEADER, max(path.stat().st_size - 8, 0)):
            raise DataError(f"{path} is not a safetensors file: its header claims {length:,} bytes")
        content = stream.read(length)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = first_twice(name for name, _ in pairs)
            raise DataError(f"{path} is not a safetensors file: it names {twice!r:.80} twice")
        return found

    try:
        header = json.loads(content, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a safetensors file: its header is no JSON") from error
    if not isinstance(header, dict):
        raise DataError(f"{path} is not a safetensors file: its header is no list of tensors")


def _refuse_others(path: Path, start: bytes) -> None:
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            raise DataError(f"{path} is {what}")
    if start[257:262] == b"ustar" or start[:4] == b"PK\x07\x08":
        raise DataError(
            f"{path} is a tar archive, as PyTorch wrote before 2017 or a tool made: unpack it, or "
            "load it with the PyTorch of then and save its state_dict"
        )
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < _LARGEST_HEADER:
        raise DataError(f"{path} is a safetensors file: name it .safetensors")


def _read_zip(path: Path) -> dict[str, Tensor]:
    with Archive(path) as archive:
        root = _kind(path, archive)
        order = archive.members.get(f"{root}/byteorder")
        if order is not None and archive.read(order.filename, 16) != b"little":
            raise UnsupportedModelError(f"{path} was written on a big-endian machine: save anew")
        content = archive.read(f"{root}/data.pkl", _LARGEST_PICKLE)
        specs = _weights(path, read_pickle(io.BytesIO(content), str(path)).value)
        # An optimizer's numbers stay where they are.
        data = {
            key: bytearray(archive.read(f"{root}/data/{key}"))
            for key in {spec.storage.key for spec in specs.values()}
        }
    return {name: tensor_of(path, name, spec, data) for name, spec in specs.items()}


def _kind(path: Path, archive: Archive) -> str:
    """The root of a checkpoint; programs are told what they are."""
    names = archive.members
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        raise UnsupportedModelError(f"{path} is an exported PyTorch program: name it .pt2")
    root = archive.root
    if f"{root}/constants.pkl" in names or any(n.startswith(f"{root}/code/") for n in names):
        raise UnsupportedModelError(
            f"{path} is a TorchScript program, which brings its own code; none was run. Save the "
            "network's state_dict, torch.export.save(...) as .pt2, or ONNX"
        )
    return root


def _read_legacy(path: Path, stream: IO[bytes]) -> dict[str, Tensor]:
    """Files from before PyTorch 1.6: four pickles, then the numbers of each storage."""
    limited = _Limited(stream, path.stat().st_size)
    file = str(path)
    if not _begins_as_pickle(limited):
        raise DataError(f"{path} is not a file of weights that PyTorch wrote, or is damaged")
    first = read_pickle(limited, file).value
    if first != _MAGIC:
        raise DataError(f"{path} is a pickle, but not one that PyTorch wrote: save a state_dict")
    version, _ = (read_pickle(limited, file).value for _ in range(2))
    if version != _LEGACY:
        raise DataError(f"{path} is damaged: it is not of version {_LEGACY}")
    main = read_pickle(limited, file)
    specs = _weights(path, main.value)
    keys = read_pickle(limited, file).value
    texts = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not texts or set(keys) != set(main.storages):
        raise DataError(f"{path} is damaged: it lacks the numbers of a tensor")
    data: dict[str, bytearray] = {}
    for key in keys:
        storage, raw = main.storages[key], limited.read(8)
        if len(raw) != 8 or struct.unpack("<q", raw)[0] != storage.numel:
            raise DataError(
                f"{path} is damaged: tensor data {key!r:.40} is not of the size it says"
            )
        data[storage.key] = bytearray(limited.read(storage.numel * _width(storage.dtype)))
    return {name: tensor_of(path, name, spec, data) for name, spec in specs.items()}


def _begins_as_pickle(stream: _Limited) -> bool:
    first = stream.peek()
    return any(code.code == first for code in pickletools.opcodes)


class _Limited:
    """A stream that is never asked for more than the file holds."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, count: int) -> bytes:
        return self._stream.read(min(count, max(self._size - self._stream.tell(), 0)))

    def readline(self) -> bytes:
        return self._stream.readline(1 << 20)

    def tell(self) -> int:
        return self._stream.tell()

    def peek(self) -> str:
        """The next character, which stays."""
        found = self._stream.read(1)
        self._stream.seek(-len(found), 1)
        return found.decode("latin-1")


def _weights(path: Path, value: Any) -> dict[str, TensorSpec]:
    """The network's tensors within what was saved."""
    for _ in range(3):  # such as {"ema": {"module": {...}}}
        if not isinstance(value, dict) or _holds_tensors(value):
            break
        value = next((v for k in _WRAPPERS if isinstance(v := value.get(k), dict) and v), value)
    if not isinstance(value, dict):
        raise DataError(f"{path} is not a state dict: expected names and tensors")
    tensors = {str(n): v for n, v in value.items() if isinstance(v, TensorSpec)}
    if not tensors:
        keys = ", ".join(" ".join(str(k)[:40].split()) for k in list(value)[:5])
        raise DataError(
            f"{path} is not a state dict: expected names and tensors, found {keys or 'nothing'}"
        )
    return tensors


def _holds_tensors(value: dict[Any, Any]) -> bool:
    return any(isinstance(v, TensorSpec) for v in value.values()) and not any(
        isinstance(value.get(k), dict) and value.get(k) for k in _WRAPPERS
    )


def _width(dtype: str) -> int:
    return int(getattr(torch, dtype).itemsize)


def tensor_of(path: Path, name: str, spec: TensorSpec, data: Mapping[str, bytearray]) -> Tensor:
    """The tensor that a file describes.

    Raises:
        DataError: It would need more numbers than the file holds.
    """
    raw = data[spec.storage.key]
    if len(raw) != spec.storage.numel * _width(spec.storage.dtype):
        raise DataError(
            f"{path} is damaged: {name!r:.80} needs {spec.storage.numel:,} numbers, its data has "
            f"{len(raw):,} bytes"
        )
    try:
        _check_view(spec, len(raw) // _width(spec.dtype))
        if not math.prod(spec.size):
            return torch.zeros(spec.size, dtype=getattr(torch, spec.dtype))
        flat = torch.frombuffer(raw, dtype=getattr(torch, spec.dtype))
        return flat.as_strided(spec.size, spec.stride, spec.offset)
    except (RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {name!r:.80} is larger than its data") from error


def _check_view(spec: TensorSpec, held: int) -> None:
    """Refuse a tensor that goes beyond its data, or stands for far more numbers than lie there."""
    if len(spec.size) > MOST_AXES or len(spec.size) != len(spec.stride):
        raise ValueError(len(spec.size))
    numel = math.prod(spec.size)
    last = spec.offset + sum((n - 1) * s for n, s in zip(spec.size, spec.stride, strict=True))
    if numel > max(held, _STRETCHED) or (numel and last >= held):
        raise ValueError(numel)
