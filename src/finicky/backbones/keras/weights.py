"""Where the arrays of each layer lie in a Keras file, and how they become PyTorch's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from finicky.backbones.keras.assembly import Assembly, module_name
from finicky.backbones.keras.document import Document, split_texts
from finicky.backbones.keras.network import Network
from finicky.backbones.keras.translation import Holder
from finicky.errors import DataError, UnsupportedModelError

# The roles whose weights are trained; Keras writes them before the others of a nested network.
_TRAINED = {"depthwise_kernel", "pointwise_kernel", "kernel", "bias", "gamma", "beta", "alpha"}
_TARGETS = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "pointwise_kernel": "weight",
    "gamma": "weight",
    "alpha": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "mean": "mean",
    "variance": "variance",
}
_LAYERS = ("layers", "_layer_checkpoint_dependencies")


def place_arrays(
    document: Document, network: Network, holders: Sequence[Holder]
) -> dict[tuple[str, ...], list[str]]:
    """For each layer with weights, the full names of its datasets in the order of its slots.

    Raises:
        DataError: A layer's weights are missing, or there are more than it has.
    """
    if document.by_name:
        return {h.path: _named(document, holders, h) for h in holders}
    return {h.path: _counted(document, network, h) for h in holders}


def _named(document: Document, holders: Sequence[Holder], holder: Holder) -> list[str]:
    """Keras' ``.h5``: a group a layer, whose attribute lists the weights; nested ones together."""
    safe = document.weights
    group = f"{document.root}/{holder.path[0]}".strip("/")
    names = split_texts(safe, group, "weight_names")
    if len(holder.path) > 1:
        names = _of_nested(names, holders, holder)
    if len(names) != len(holder.slots):
        raise DataError(
            f"{document.name}: layer {'/'.join(holder.path)} has {len(names)} arrays of weights, "
            f"expected {len(holder.slots)} ({', '.join(role for role, _ in holder.slots)})"
        )
    found = dict(zip(map(_role, names), names, strict=True))
    roles = [role for role, _ in holder.slots]
    if set(found) == set(roles):
        names = [found[role] for role in roles]
    return [f"{group}/{name}" for name in names]


def _role(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(":")[0]


def _of_nested(names: list[str], holders: Sequence[Holder], holder: Holder) -> list[str]:
    """The arrays of one layer among all those of the network that it is nested in."""
    for depth in range(len(holder.path), 0, -1):
        end = "/".join(holder.path[-depth:])
        own = [n for n in names if ("/" + n.rsplit("/", 1)[0]).endswith("/" + end)]
        if len(own) == len(holder.slots):
            return own
    # Names that TensorFlow 1 made unique: Keras then goes by order, trained ones first.
    order = [
        (h.path, role)
        for trained in (True, False)
        for h in holders
        if h.path[0] == holder.path[0]
        for role, _ in h.slots
        if (role in _TRAINED) is trained
    ]
    if [_role(n) for n in names] != [role for _, role in order]:
        return []
    found = dict(zip(order, names, strict=True))
    return [found[holder.path, role] for role, _ in holder.slots]


def _counted(document: Document, network: Network, holder: Holder) -> list[str]:
    """Keras 3: layers lie under their class, counted in the order of the config."""
    safe, group = document.weights, document.root
    for depth, name in enumerate(holder.path):
        counts: Counter[str] = Counter()
        for other, kind in network.members[holder.path[:depth]]:
            snake = _snake(kind)
            place = snake if not counts[snake] else f"{snake}_{counts[snake]}"
            counts[snake] += 1
            if other == name:
                break
        within = next((w for w in _LAYERS if f"{group}/{w}".strip("/") in safe.groups), "layers")
        group = f"{group}/{within}/{place}".strip("/")
    names = [f"{group}/vars/{number}" for number in range(len(holder.slots))]
    missing = [n for n in names if n not in safe.datasets]
    if missing or f"{group}/vars/{len(names)}" in safe.datasets:
        present = sum(name.startswith(f"{group}/vars/") for name in safe.datasets)
        raise DataError(
            f"{document.name}: layer {'/'.join(holder.path)} has {present} arrays of weights in "
            f"{group}, expected {len(names)}"
        )
    return names


def _snake(kind: str) -> str:
    """Keras' own file names: ``MaxPooling2D`` to ``max_pooling2d``, ``PReLU`` to ``p_re_lu``."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def tensors(
    document: Document,
    assembly: Assembly,
    holders: Sequence[Holder],
    places: Mapping[tuple[str, ...], list[str]],
) -> dict[str, Tensor]:
    """The state dict of an assembly (which may be on the meta device) from a file's arrays.

    Raises:
        DataError: An array does not have the shape that the config asks for, or holds NaN.
    """
    wanted = assembly.graph.state_dict()
    found: dict[str, Tensor] = {}
    for holder in holders:
        for (role, entry), place in zip(holder.slots, places[holder.path], strict=True):
            if entry is None:
                continue
            target = f"{module_name(entry)}.{_TARGETS[role]}"
            array = _read(document, place, holder)
            order = assembly.orders.get(entry)
            found[target] = _converted(document, holder, role, array, order, wanted[target])
    for name, tensor in wanted.items():
        if name not in found:  # what Keras leaves out is what it takes for granted
            value = 1.0 if name.endswith("weight") else 0.0
            found[name] = torch.full(tensor.shape, value, dtype=tensor.dtype)
    return found


def _read(document: Document, place: str, holder: Holder) -> np.ndarray:
    if place not in document.weights.datasets:
        raise DataError(
            f"{document.name}: layer {'/'.join(holder.path)}: {place} is not in the file"
        )
    array = document.weights.array(place).astype(np.float32)
    if not np.isfinite(array).all():
        raise DataError(f"{document.name}: layer {'/'.join(holder.path)}: {place} holds NaN or inf")
    return array


def _converted(
    document: Document,
    holder: Holder,
    role: str,
    array: np.ndarray,
    order: np.ndarray | None,
    wanted: Tensor,
) -> Tensor:
    shape = tuple(wanted.shape)
    where = f"{document.name}: layer {'/'.join(holder.path)} ({holder.kind})"
    try:
        turned = _turned(role, array, order, shape)
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{where}: its {role} has shape {array.shape}, which does not fit {shape}"
        ) from error
    if turned.shape != shape:
        if role == "alpha":
            raise UnsupportedModelError(
                f"{where}: its alpha has shape {array.shape}; only one number a channel "
                "(shared_axes of height and width) is supported"
            )
        raise DataError(
            f"{where}: its {role} has shape {array.shape}, the config asks for another "
            f"({turned.shape} where {shape} is expected)"
        )
    return torch.from_numpy(np.ascontiguousarray(turned))


def _turned(
    role: str, array: np.ndarray, order: np.ndarray | None, shape: tuple[int, ...]
) -> np.ndarray:
    """From Keras' axes to PyTorch's."""
    if role in ("kernel", "pointwise_kernel"):
        if array.ndim == 4:
            return array.transpose(3, 2, 0, 1)
        rows = array if order is None else array[order]
        return rows.T if len(shape) == 2 else rows.T[:, :, None, None]
    if role == "depthwise_kernel":
        height, width, channels, multiplier = array.shape
        return array.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    if role == "bias":
        return array
    if role == "alpha":
        array = array.reshape(-1) if array.size == max(array.shape) else array
    if role in ("mean", "variance"):
        array = array.reshape(-1)
    if role == "gamma" and len(shape) == 4:
        return array.reshape(-1, 1, 1, 1)
    return array if order is None else array[order]
