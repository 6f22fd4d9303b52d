"""A backbone from an exported program: looked at in a child, rewritten and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from finicky.backbones.archives import Archive
from finicky.backbones.backbone import Backbone, Preprocessing
from finicky.backbones.blueprint import Blueprint, Built
from finicky.backbones.foreign import as_backbone, rebuild
from finicky.backbones.pickles import StorageSpec, TensorSpec
from finicky.backbones.program.convert import DTYPES, Converted, convert
from finicky.backbones.program.document import Document, read_document
from finicky.backbones.program.reference import run
from finicky.backbones.sandbox import first_look
from finicky.backbones.state_dict import tensor_of
from finicky.errors import DataError, UnsupportedModelError

# Scale-relative, max|difference| / max|reference|, as for our own exports.
TOLERANCE = 1e-5
# What running a program may raise whose arguments nobody checked.
_AMISS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError),
    ValueError,
)


def load(path: Path, *, preprocessing: Preprocessing | None = None) -> Backbone:
    """The backbone in a ``.pt2`` file, as ``torch.export.save`` writes it.

    Args:
        path: The file; from strangers too.
        preprocessing: What it expects of photos, where it does not say so itself.

    Raises:
        DataError: The file is damaged or hostile; the message names the part.
        UnsupportedModelError: It uses what Finicky does not know, by name, or the rewritten
            network answers differently.
    """
    path = Path(path)
    first_look("program", path)
    document = read_document(path)
    tensors = read_weights(path, document)
    try:
        found = convert(document, tensors)
        backbone = as_backbone(
            path,
            "program",
            found.module,
            found.wiring,
            size=found.size,
            byte_input=found.byte_input,
            preprocessing=preprocessing,
            what=f"PyTorch program, torch {document.version}",
        )
        check_parity(document, tensors, found, backbone.preprocessing)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{path} cannot be used: {error}") from error
    return backbone


def build(blueprint: Blueprint) -> Built:
    """Features and head of a blueprint of kind ``program``, with fresh weights."""
    return rebuild(blueprint)


def read_weights(path: Path, document: Document) -> dict[str, Tensor]:
    """The numbers that a program's values are given beforehand, by their names in the network."""
    found: dict[str, Tensor] = {}
    data: dict[str, bytearray] = {}  # tensors may share their numbers
    with Archive(path) as archive:
        for name in dict.fromkeys(document.weights.values()):
            payload = document.payloads.get(name)
            if payload is None:
                raise DataError(f"{path} is damaged: it lacks the numbers of {name!r:.80}")
            dtype = DTYPES.get(payload.code)
            if dtype is None:
                raise UnsupportedModelError(
                    f"{path} cannot be used: {name!r:.80} is of type {payload.code}"
                )
            if payload.member not in data:
                data[payload.member] = bytearray(archive.read(payload.member))
            kind = str(dtype).removeprefix("torch.")
            held = len(data[payload.member]) // dtype.itemsize
            storage = StorageSpec(payload.member, kind, held)
            spec = TensorSpec(storage, payload.offset, payload.size, payload.stride, kind)
            tensor = tensor_of(path, name, spec, data)
            if tensor.dtype in (torch.float16, torch.bfloat16):
                raise UnsupportedModelError(
                    f"{path} cannot be used: {name!r:.80} is of half precision; call "
                    "network.float() before torch.export.export"
                )
            found[name] = tensor
    return found


def check_parity(
    document: Document,
    tensors: Mapping[str, Tensor],
    found: Converted,
    preprocessing: Preprocessing,
) -> float:
    """Compare the layers with the program's own operators, on photos of noise.

    Returns:
        The largest scale-relative difference.

    Raises:
        UnsupportedModelError: It is more than `TOLERANCE`, or depends on the batch.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (2, found.size, found.size, 3)
    photos = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    x = preprocessing(photos)
    try:
        reference = torch.cat([_single(document, tensors, found, x[i : i + 1]) for i in range(2)])
        with torch.inference_mode():
            pair, single = found.module(x), found.module(x[:1])
    except _AMISS as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
        raise UnsupportedModelError(f"it does not run: {reason}") from error
    if pair.shape != reference.shape or single.shape != reference[:1].shape:
        raise UnsupportedModelError(
            f"rewritten as layers it answers with shape {tuple(pair.shape)}, the program with "
            f"{tuple(reference.shape)}"
        )
    scale = float(reference.abs().max()) or 1.0
    apart = max(float((pair - reference).abs().max()), float((single - reference[:1]).abs().max()))
    if not apart / scale <= TOLERANCE:
        raise UnsupportedModelError(
            f"rewritten as layers it differs from the program by {apart / scale:.1e} of its "
            f"largest answer, more than {TOLERANCE:.0e}"
        )
    return apart / scale


def _single(
    document: Document, tensors: Mapping[str, Tensor], found: Converted, x: Tensor
) -> Tensor:
    """One photo through the program, in the layout, type and batch that it wants."""
    if found.channels_last:
        x = x.permute(0, 2, 3, 1)
    if found.byte_input:
        x = x.round().clamp(0, 255).to(torch.uint8)
    batch = 1 if document.open_batch else found.batch
    answer = run(document, tensors, x.contiguous().repeat(batch, 1, 1, 1))
    return answer[: len(answer) // batch].float()
