"""ONNX files from strangers: parsed, and every tensor in them walked before anything uses it.

A tensor may say that its numbers lie in another file, and onnx and ONNX Runtime have each followed
such words to places where they must not go (CVE-2022-25882, CVE-2024-27318, CVE-2026-34446). So
nothing but this module looks at them: runtimes are given bytes in which no such word is left.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finicky.errors import DataError, UnsupportedModelError, UsageError
from finicky.files import write_bytes

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

OPSETS = (9, 24)
_LARGEST = 2**31 - 1  # what protobuf can hold
_KEYS = {"location", "offset", "length", "checksum"}


def read_onnx(path: Path, *, external_data: bool = False) -> ModelProto:
    """Parse a file and check every tensor in it; numbers from other files are read into it.

    Args:
        path: The file.
        external_data: Whether tensors may lie in plain files beside it.

    Raises:
        DataError: It is no ONNX file, or a tensor's size or place is not what it should be; the
            message names the tensor.
        UnsupportedModelError: It is of a version that Finicky does not read.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path} is larger than 2 GB, more than an ONNX file can hold")
        content = path.read_bytes()
        model = onnx.ModelProto.FromString(content)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (DecodeError, RuntimeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not an ONNX file, or is cut off") from error
    if not model.HasField("graph") or not model.graph.node:
        raise DataError(f"{path} is not an ONNX file: it holds no network")
    _check_version(path, model)
    total = 0
    for tensor in tensors_of(model):
        total += _check_tensor(path, tensor, external_data)
        if total > _LARGEST:
            raise DataError(f"{path}: its tensors take more than 2 GB")
    return model


def inline_onnx(path: Path, out: Path, *, force: bool = False) -> int:
    """Write a model whose weights lie in files beside it as one file, which has one hash.

    Args:
        path: The model; data is read from plain files in its own folder only.
        out: The file to write.
        force: Whether ``out`` may be overwritten.

    Returns:
        How many tensors lay elsewhere.

    Raises:
        UsageError: ``out`` exists, or is the model itself.
        DataError: The model is damaged or hostile, or too large for one file; names the tensor.
    """
    import onnx

    from finicky.backbones.sandbox import first_look

    path, out = Path(path), Path(out)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out must be a file .onnx, got {out}")
    if out.exists() and (not force or out.samefile(path)):
        raise UsageError(f"{out} exists: choose another --out{'' if force else ', or --force'}")
    first_look("onnx-beside", path)
    outside = sum(
        t.data_location == onnx.TensorProto.EXTERNAL
        for t in tensors_of(onnx.ModelProto.FromString(path.read_bytes()))
    )
    content = read_onnx(path, external_data=True).SerializeToString()
    if len(content) > _LARGEST:
        raise DataError(f"{path} with its data is larger than 2 GB: no ONNX file can hold it")
    write_bytes(out, content)
    return outside


def tensors_of(message: Any) -> Iterator[TensorProto]:
    """Every tensor anywhere in a message.

    Fields are found by asking protobuf for them, so that no hiding place is forgotten:
    initializers, constants, sparse tensors' two parts, subgraphs, functions, training.
    """
    from onnx import TensorProto

    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if hasattr(value, "__len__") else [value]:
            if isinstance(part, TensorProto):
                yield part
            if hasattr(part, "ListFields"):
                yield from tensors_of(part)


def _check_version(path: Path, model: ModelProto) -> None:
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions or not OPSETS[0] <= max(versions) <= OPSETS[1]:
        found = max(versions) if versions else "none"
        raise UnsupportedModelError(
            f"{path} is of ONNX opset {found}; Finicky reads {OPSETS[0]} to {OPSETS[1]}: export it "
            "again with one of these"
        )


def _check_tensor(path: Path, tensor: TensorProto, external_data: bool) -> int:
    """The bytes that a tensor takes, once it is known to be honest about them."""
    from onnx import TensorProto

    name = f"tensor {tensor.name!r:.80}"
    if any(n < 0 for n in tensor.dims):
        raise DataError(f"{path}: {name} has a negative size in {list(tensor.dims)[:8]}")
    width = _WIDTHS.get(tensor.data_type)
    if width is None and tensor.data_type != TensorProto.STRING:
        raise DataError(f"{path}: {name} is of type {tensor.data_type}, which Finicky cannot read")
    size = math.ceil(math.prod(tensor.dims) * (width or 0))
    if size > _LARGEST:
        raise DataError(f"{path}: {name} claims {math.prod(tensor.dims):,} numbers: too many")
    outside = tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0
    if outside:
        _fetch(path, tensor, name, size, external_data)
    elif tensor.HasField("raw_data") and width and len(tensor.raw_data) != size:
        raise DataError(
            f"{path}: {name} of shape {list(tensor.dims)[:8]} needs {size:,} bytes, it has "
            f"{len(tensor.raw_data):,}"
        )
    return size


# Bytes a number, by TensorProto.DataType; those that are not here are refused.
_WIDTHS: dict[int, float] = {
    1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16,
    16: 2, 17: 1, 18: 1, 19: 1, 20: 1, 21: 0.5, 22: 0.5, 23: 0.5,
}  # fmt: skip


def _fetch(path: Path, tensor: TensorProto, name: str, size: int, allowed: bool) -> None:
    """Read a tensor's numbers from the file beside the model that it names."""
    from onnx import TensorProto

    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not allowed:
        raise DataError(
            f"{path}: {name} lies in another file, {location!r:.80}: finicky backbone inline "
            f"{path.name} --out whole.onnx puts it inside, if you trust where both came from"
        )
    refuse = f"{path}: {name} wants to be read from {location!r:.80}"
    if strange := set(entries) - _KEYS:
        raise DataError(f"{refuse} with {min(strange)!r:.40}, which is no such entry")
    if len(entries) != len(tensor.external_data):
        raise DataError(f"{refuse} and says so twice")
    if (
        not location
        or location in (".", "..")
        or any(c in location for c in "/\\:\0")
        or Path(location).name != location
    ):
        raise DataError(f"{refuse}: only a plain file in the model's own folder is allowed")
    offset = _number(entries.get("offset", "0"), f"{refuse}, offset")
    length = _number(entries.get("length", str(size)), f"{refuse}, length")
    if length != size:
        raise DataError(f"{refuse}, {length:,} bytes; its shape needs {size:,}")
    tensor.raw_data = _read_plain(path.parent / location, offset, length, refuse)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise DataError(f"{what} {text!r:.40}: it must be a whole number, 0 or more")
    return int(text)


def _read_plain(file: Path, offset: int, length: int, refuse: str) -> bytes:
    """Bytes of a file that is no link of any kind."""
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise DataError(f"{refuse}: it is a link or no plain file")
        handle = os.open(
            file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        )
        with os.fdopen(handle, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise DataError(f"{refuse}: it is a hard link or no plain file")
            if offset + length > found.st_size:
                raise DataError(
                    f"{refuse}, bytes {offset:,} to {offset + length:,}; it has {found.st_size:,}"
                )
            stream.seek(offset)
            return stream.read(length)
    except OSError as error:
        raise DataError(f"{refuse}: {error.strerror or error}") from error
