"""A second file with 8-bit whole numbers inside: a quarter of the size, and faster on some devices.

Static quantisation by ONNX Runtime: signed 8 bits for weights (a scale a channel) and responses,
written as pairs of QuantizeLinear and DequantizeLinear, which every newer runtime reads. The
range of each response is measured on *training* tiles, as many of each class; evaluation data
never takes part. Preprocessing, heads and softmax stay in float: they take no time, and their
few numbers decide.

Where a response has several readers (a map's head, a shortcut) responses are *unsigned*. On x64
ONNX Runtime computes with unsigned responses and turns signed ones into them as it loads a file,
but not those with several readers (seen in 1.32): the convolutions around these then stayed in
float, between conversions, and 8 bits were 0.79 times as fast as float instead of twice as fast.
Both kinds answer alike: ranges and weights are the same.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from finicky.errors import FinickyError
from finicky.files import atomic_path

FEWEST_TILES, MOST_TILES = 100, 300
BATCH = 10
# Percentiles keep every response of every tile to the end: gigabytes for 300 tiles of 224 px.
MOST_BYTES = 400_000_000
# What is worth 8 bits, and what stands between: a float operator in the middle costs two casts.
OPERATORS = (
    *("Conv", "Relu", "Clip", "LeakyRelu", "HardSwish", "MaxPool", "AveragePool", "Add", "Mul"),
    *("Concat", "GlobalAveragePool", "Sigmoid", "Pad"),
)


@dataclass(frozen=True)
class Recipe:
    """One way to quantise.

    Attributes:
        first_float: Whether the first convolution, which sees the photo itself, stays in float.
        ranges: ``minmax``: ranges hold every response seen; ``percentile``: all but 1 in 10,000.
    """

    first_float: bool
    ranges: Literal["minmax", "percentile"]

    @property
    def words(self) -> str:
        """For people."""
        first = "first convolution in float" if self.first_float else "all convolutions"
        return f"{first}, {self.ranges} ranges"


RECIPES = (
    Recipe(False, "minmax"),
    Recipe(True, "minmax"),
    Recipe(False, "percentile"),
    Recipe(True, "percentile"),
)


def calibration_rows(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Rows of training tiles, half of each class as far as they go, at most `MOST_TILES`."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == c)) for c in (0, 1)]
    each = min(MOST_TILES // 2, *(len(part) for part in rows))
    # Where one class is rare the other fills up: too few tiles give ranges that are too narrow.
    wanted = [each, each]
    if 2 * each < FEWEST_TILES:
        wanted = [min(len(part), FEWEST_TILES - each) for part in rows]
    return np.sort(np.concatenate([p[:n] for p, n in zip(rows, wanted, strict=True)]))


def quantise(model: Path, out: Path, tiles: np.ndarray, recipe: Recipe) -> None:
    """Write the 8-bit version of an ONNX file of ours.

    Args:
        model: In float.
        out: Whole or not at all; carries no metadata yet.
        tiles: ``(N, S, S, 3)`` uint8 training tiles.
        recipe: What stays in float, how ranges are found.

    Raises:
        FinickyError: ONNX Runtime cannot quantise this network.
    """
    try:
        with _quiet(), tempfile.TemporaryDirectory() as scratch, atomic_path(out) as temporary:
            prepared = Path(scratch) / "prepared.onnx"
            _prepare(model, prepared)
            _static(prepared, temporary, tiles, recipe)
    except (FinickyError, MemoryError):
        raise
    except Exception as error:  # the quantiser raises whatever its parts raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FinickyError(f"quantising {model.name} failed: {reason}") from error


def _prepare(model: Path, out: Path) -> None:
    """Shapes inferred and batch norms folded, as the quantiser wants it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(model), str(out), skip_symbolic_shape=True)


def _static(prepared: Path, out: Path, tiles: np.ndarray, recipe: Recipe) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    minmax = recipe.ranges == "minmax"
    if not minmax:
        fitting = max(BATCH, MOST_BYTES // response_bytes(prepared))
        tiles = np.asarray(tiles)[:: -(-len(tiles) // fitting)]
    responses = QuantType.QUInt8 if branches(prepared) else QuantType.QInt8
    quantize_static(
        str(prepared),
        str(out),
        _Reader(tiles),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(OPERATORS),
        per_channel=True,
        activation_type=responses,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept_in_float(prepared, first=recipe.first_float),
        calibrate_method=CalibrationMethod.MinMax if minmax else CalibrationMethod.Percentile,
        extra_options={} if minmax else {"CalibPercentile": 99.99},
    )


def response_bytes(model: Path) -> int:
    """How much all responses to one tile take, of an ONNX file whose shapes were inferred."""
    import onnx

    total = 1
    for value in onnx.load(model, load_external_data=False).graph.value_info:
        sides = [side.dim_value for side in value.type.tensor_type.shape.dim]
        total += 4 * math.prod(side for side in sides[1:] if side > 0)
    return total


def branches(model: Path) -> bool:
    """Whether any response that a convolution reads has another reader too."""
    import onnx

    readers: dict[str, list[str]] = {}
    for node in onnx.load(model, load_external_data=False).graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    return any("Conv" in types and len(types) > 1 for types in readers.values())


def kept_in_float(model: Path, *, first: bool) -> list[str]:
    """Names of nodes that only a map needs (the pixel head), and of the first convolution."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    needed = _behind(graph, "probabilities")
    names = [node.name for node in graph.node if node.name not in needed]
    if first:
        names += [node.name for node in graph.node if node.op_type == "Conv"][:1]
    return names


def _behind(graph: Any, output: str) -> set[str]:
    """Names of all nodes that an output depends on."""
    maker = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = [output]
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return found


class _Reader:
    """Hands the quantiser tiles, a few at a time.

    Always as many: percentiles failed on a last batch that was smaller (ONNX Runtime 1.32).
    """

    def __init__(self, tiles: np.ndarray) -> None:
        count = len(tiles)
        each = next(n for n in range(BATCH, 0, -1) if count % n == 0)
        self._blocks = iter([np.array(tiles[i : i + each]) for i in range(0, count, each)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        block = next(self._blocks, None)
        return None if block is None else {"tiles": block}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser talks to whoever made the file, and prints; nothing in it concerns a user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
