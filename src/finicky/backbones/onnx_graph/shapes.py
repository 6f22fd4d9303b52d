"""ONNX operators that move numbers about, or summarise along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from finicky.backbones.onnx_graph.convert import Call
from finicky.backbones.wiring import Ref

_END = 2**63 - 1


def reshape_plan(before: tuple[int, ...], after: list[int]) -> list[int | str]:
    """A target shape in terms of the input's, so that other batches and photo sizes fit.

    Sizes that the two share at the front, then at the back, are copied; a single one that is left
    is whatever remains.
    """
    plan: list[int | str] = [int(n) for n in after]
    front = 0
    while front < min(len(before), len(after)) and before[front] == after[front]:
        plan[front] = str(front)
        front += 1
    back = 1
    while back <= min(len(before), len(after)) - front and before[-back] == after[-back]:
        plan[-back] = str(len(before) - back)
        back += 1
    left = [i for i, n in enumerate(plan) if isinstance(n, int)]
    if len(left) == 1:
        plan[left[0]] = -1
    return plan


def _reshape(call: Call) -> Ref:
    before = call.shape()
    after = [int(n) for n in call.array(1).reshape(-1)] if call.input(1) is not None else []
    if not call.get("allowzero", 0):
        after = [before[i] if n == 0 else n for i, n in enumerate(after)]
    if -1 in after:
        known = int(np.prod([n for n in after if n != -1]))
        after[after.index(-1)] = int(np.prod(before)) // max(known, 1)
    return _to_shape(call, call.ref(), after)


def _to_shape(call: Call, source: Ref, after: list[int]) -> Ref:
    plan = reshape_plan(call.draft.shape(source), after)
    return call.draft.layer(call.name(9), "Reshape", source, shape=plan)


def _flatten(call: Call) -> Ref:
    shape, axis = call.shape(), call.get("axis", 1)
    if axis % len(shape) == 1:
        return call.draft.function("aten.flatten.using_ints", call.ref(), 1, -1)
    after = [int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))]
    return _to_shape(call, call.ref(), after)


def _transpose(call: Call) -> Ref:
    order = call.get("perm", list(range(len(call.shape())))[::-1])
    source, earlier = _permuted(call)
    order = [earlier[i] for i in order]
    if order == sorted(order):
        return source
    return call.draft.function("aten.permute.default", source, order)


def _permuted(call: Call) -> tuple[Ref, list[int]]:
    """Where the input comes from, if only its axes were moved, and how they were."""
    step = call.draft.step_of(call.ref())
    if step is not None and step.call == "aten.permute.default":
        return step.args[0], list(step.args[1])
    return call.ref(), list(range(len(call.shape())))


def _squeeze(call: Call) -> Ref:
    shape = call.shape()
    axes = call.ints(1, "axes")
    if axes is None:
        axes = [i for i, n in enumerate(shape) if n == 1 and i > 0]
    return call.draft.function("aten.squeeze.dims", call.ref(), axes)


def _unsqueeze(call: Call) -> Ref:
    axes = call.ints(1, "axes") or []
    found, rank = call.ref(), len(call.shape()) + len(axes)
    for axis in sorted(a % rank for a in axes):
        found = call.draft.function("aten.unsqueeze.default", found, axis)
    return found


def _concat(call: Call) -> Ref:
    parts = []
    for number, value in enumerate(call.inputs):
        tensor = call.tensor(number) if isinstance(value, np.ndarray) else None
        parts.append(value if tensor is None else call.draft.constant(tensor))
    return call.draft.function("aten.cat.default", parts, call.get("axis", 0))


def _split(call: Call) -> list[Ref]:
    axis = call.get("axis", 0)
    size = call.shape()[axis]
    sizes = call.ints(1, "split")
    if sizes is None:
        count = call.get("num_outputs", call.outputs)
        each = -(-size // count)
        sizes = [each] * (count - 1) + [size - each * (count - 1)]
    parts = call.draft.function("aten.split_with_sizes.default", call.ref(), sizes, axis)
    return [call.draft.function("python.getitem", parts, i) for i in range(len(sizes))]


def _slice(call: Call) -> Ref:
    starts, ends = call.ints(1, "starts") or [], call.ints(2, "ends") or []
    axes = call.ints(3, "axes") or list(range(len(starts)))
    steps = call.ints(4, "steps") or [1] * len(starts)
    found = call.ref()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == -1 and start in (-1, _END) and end < -(2**31):
            found = call.draft.function("aten.flip.default", found, [axis])
        elif step < 1:
            raise call.refusal(f"has step {step}")
        else:
            stop = _END if end >= call.draft.shape(found)[axis] else end
            found = call.draft.function("aten.slice.Tensor", found, axis, start, stop, step)
    return found


def _gather(call: Call) -> Ref:
    index, axis = call.array(1).astype(np.int64), call.get("axis", 0)
    if index.ndim == 0:
        return call.draft.function("aten.select.int", call.ref(), axis, int(index))
    if index.ndim != 1:
        raise call.refusal("takes a table of indices")
    stored = call.draft.constant(torch.from_numpy(index % call.shape()[axis]))
    return call.draft.function("aten.index_select.default", call.ref(), axis, stored)


def _gather_nd(call: Call) -> Ref:
    """Slices along the first axis, as PyTorch exports ``x[:, [2, 1, 0]]``."""
    index = call.array(1).astype(np.int64)
    if call.get("batch_dims", 0) or index.ndim != 2 or index.shape[1] != 1:
        raise call.refusal("picks single numbers")
    source, order = _permuted(call)
    stored = call.draft.constant(torch.from_numpy(index[:, 0] % call.shape()[0]))
    found = call.draft.function("aten.index_select.default", source, order[0], stored)
    return call.draft.function("aten.permute.default", found, order)


def _shape(call: Call) -> np.ndarray:
    start, end = call.get("start", 0), call.get("end", None)
    return np.array(call.shape()[start:end], np.int64)


def _expand(call: Call) -> Ref:
    target, shape = [int(n) for n in call.array(1)], call.shape()
    rank = max(len(target), len(shape))
    before, wanted = [1] * (rank - len(shape)) + list(shape), [1] * (rank - len(target)) + target
    sizes = [-1 if n in (1, b) else n for b, n in zip(before, wanted, strict=True)]
    return call.draft.function("aten.expand.default", call.ref(), sizes)


def _pad(call: Call) -> Ref:
    pads = call.ints(1, "pads") or []
    rank = len(call.shape())
    axes = call.ints(3, "axes") or list(range(rank))
    sides = [[0, 0] for _ in range(rank)]
    for i, axis in enumerate(axes):
        sides[axis] = [pads[i], pads[i + len(axes)]]
    if any(any(pair) for pair in sides[: rank - 2]) and len(sides) == 4 and any(sides[0]):
        raise call.refusal("adds photos to the batch")
    flat = [n for pair in reversed(sides) for n in pair]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(
        call.get("mode", "constant")
    )
    if mode is None:
        raise call.refusal(f"pads by {call.get('mode')}")
    given = call.input(2)
    value = float(np.asarray(given).reshape(-1)[0]) if given is not None else call.get("value", 0.0)
    if mode == "constant":
        return call.draft.function("aten.constant_pad_nd.default", call.ref(), flat, value)
    return call.draft.function("aten.pad.default", call.ref(), flat, mode)


def _reduce(name: str) -> Callable[[Call], Ref]:
    def convert(call: Call) -> Ref:
        keep = bool(call.get("keepdims", 1))
        axes = call.ints(1, "axes")
        if axes is None:
            axes = list(range(len(call.shape())))
        if 0 in axes:
            raise call.refusal("summarises over the batch")
        if name == "norm":
            return call.draft.function("aten.linalg_vector_norm.default", call.ref(), 2, axes, keep)
        return call.draft.function(f"aten.{name}", call.ref(), axes, keep)

    return convert


def _resize(call: Call) -> Ref:
    shape = call.shape()
    if len(shape) != 4:
        raise call.refusal("resizes what is no map")
    place = 1 if call.kind == "Upsample" or call.opset < 11 else 2
    scales = call.input(place)
    if isinstance(scales, np.ndarray) and scales.size == 4:
        factors = [float(n) for n in scales]
    elif call.kind == "Upsample" and call.get("scales"):
        factors = [float(n) for n in call.get("scales")]
    else:
        factors = [int(n) / s for n, s in zip(call.array(3), shape, strict=True)]
    if factors[:2] != [1.0, 1.0]:
        raise call.refusal("resizes channels")
    mode = call.get("mode", "nearest")
    how = call.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        return call.draft.function("aten.upsample_nearest2d.vec", call.ref(), None, factors[2:])
    if mode != "linear" or how not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise call.refusal(f"resizes by {mode}, {how}")
    return call.draft.function(
        "aten.upsample_bilinear2d.vec", call.ref(), None, how == "align_corners", factors[2:]
    )


def _cast(call: Call) -> Any:
    if call.get("to") in (1, 10, 11):  # floats of any width: all of ours are float32
        return call.ref()
    raise call.refusal("turns maps into whole numbers")


def _depth_to_space(call: Call) -> Ref:
    block, channels = call.get("blocksize"), call.shape()[1]
    source = call.ref()
    if call.get("mode", "DCR") == "DCR":
        order = np.arange(channels).reshape(block * block, -1).T.reshape(-1)
        stored = call.draft.constant(torch.from_numpy(order.copy()))
        source = call.draft.function("aten.index_select.default", source, 1, stored)
    return call.draft.function("aten.pixel_shuffle.default", source, block)


SHAPES: dict[str, Callable[[Call], Any]] = {
    "Cast": _cast,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "ReduceL2": _reduce("norm"),
    "ReduceMax": _reduce("amax.default"),
    "ReduceMean": _reduce("mean.dim"),
    "ReduceMin": _reduce("amin.default"),
    "ReduceSum": _reduce("sum.dim_IntList"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
