"""A network as data: steps of known layers and tensor functions, and the module made of them.

Files of other tools (ONNX, PyTorch's exported programs) are read into this form. It names nothing
but what is listed in `finicky.backbones.vocabulary`, so that building a network from it runs no
code that a file brought along.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from finicky.backbones.vocabulary import LAYERS, function
from finicky.errors import DataError, UnsupportedModelError

INPUT = "photo"
_VERSION = 1


@dataclass(frozen=True)
class Ref:
    """The value that a step makes; `INPUT` is the network's input."""

    name: str


@dataclass(frozen=True)
class Stored:
    """A tensor that the network carries, by name."""

    name: str


@dataclass(frozen=True)
class Step:
    """One layer or function call.

    ``args`` hold `Ref`, `Stored`, torch dtypes, plain JSON values and lists of these. ``options``
    are a layer's constructor arguments, or a function's keyword arguments.
    """

    name: str
    call: str
    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wiring:
    """The steps of a network in the order in which they run, and what it carries.

    Attributes:
        steps: Each uses only values of earlier ones.
        constants: Shape and dtype of each carried tensor.
        output: The value that the network answers with.
    """

    steps: tuple[Step, ...]
    constants: dict[str, tuple[tuple[int, ...], str]]
    output: Ref

    def to_bytes(self) -> bytes:
        """JSON, for a blueprint."""
        value = {
            "version": _VERSION,
            "steps": [
                {"name": s.name, "call": s.call, "args": _pack(s.args), "options": _pack(s.options)}
                for s in self.steps
            ],
            "constants": {name: [list(s), d] for name, (s, d) in self.constants.items()},
            "output": self.output.name,
        }
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The inverse of `to_bytes`; anything amiss is a `DataError`."""
        try:
            value = json.loads(content)
            if value["version"] != _VERSION:
                raise DataError(
                    f"the stored network has version {value['version']}, this Finicky reads "
                    f"{_VERSION}: update Finicky"
                )
            steps = tuple(
                Step(
                    str(s["name"]), str(s["call"]), tuple(_unpack(s["args"])), _unpack(s["options"])
                )
                for s in value["steps"]
            )
            constants = {
                str(name): (tuple(int(n) for n in shape), str(dtype))
                for name, (shape, dtype) in value["constants"].items()
            }
            return cls(steps, constants, Ref(str(value["output"])))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"the stored network is damaged: {error!r:.120}") from error


def assemble(
    wiring: Wiring,
    *,
    layers: Mapping[str, nn.Module] | None = None,
    constants: Mapping[str, Tensor] | None = None,
) -> fx.GraphModule:
    """The module of a wiring: real layers, called one after the other.

    Args:
        wiring: What to build.
        layers: Layers by the names of their steps; without, fresh ones.
        constants: Carried tensors by name; without, ones, by which anything can be divided.

    Raises:
        UnsupportedModelError: A step calls what is not in the vocabulary.
    """
    root, graph = nn.Module(), fx.Graph()
    values: dict[str, fx.Node] = {INPUT: graph.placeholder(INPUT)}
    for name, (shape, dtype) in wiring.constants.items():
        given = None if constants is None else constants[name]
        root.register_buffer(name, _fresh(shape, dtype) if given is None else given)

    def place(value: Any) -> Any:
        if isinstance(value, Ref):
            return values[value.name]
        if isinstance(value, Stored):
            return graph.get_attr(value.name)
        if isinstance(value, (list, tuple)):
            return [place(v) for v in value]
        return value

    for step in wiring.steps:
        if step.call in LAYERS:
            layer = layers[step.name] if layers is not None else make_layer(step)
            root.add_module(step.name, layer)
            values[step.name] = graph.call_module(step.name, tuple(place(step.args)))
        else:
            options = {key: place(v) for key, v in step.options.items()}
            values[step.name] = graph.call_function(
                function(step.call), tuple(place(step.args)), options
            )
    graph.output(values[wiring.output.name])
    return fx.GraphModule(root, graph, "Network").eval()


def _fresh(shape: tuple[int, ...], dtype: str) -> Tensor:
    kind = getattr(torch, dtype)
    return (
        torch.ones(shape, dtype=kind) if kind.is_floating_point else torch.zeros(shape, dtype=kind)
    )


def make_layer(step: Step) -> nn.Module:
    """A layer with fresh weights, in eval mode."""
    return LAYERS[step.call](**step.options).eval()


class Draft:
    """A wiring in the making, which knows the shape of every value as it grows.

    Shapes come from running each step on tensors without content, at one batch and photo size;
    nothing is computed, so that a file cannot make this slow or large.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        with self._mode:
            self._examples: dict[str, Any] = {INPUT: torch.empty(shape, dtype=dtype)}
        self._steps: dict[str, Step] = {}
        self._numbers = Counter[str]()  # of names that occur again
        self._layers: dict[str, nn.Module] = {}
        self._constants: dict[str, Tensor] = {}

    def shape(self, ref: Ref) -> tuple[int, ...]:
        """The shape of a value at the draft's photo size."""
        return tuple(int(n) for n in self._examples[ref.name].shape)

    def dtype(self, ref: Ref) -> torch.dtype:
        """The dtype of a value."""
        found: torch.dtype = self._examples[ref.name].dtype
        return found

    def layer_of(self, ref: Ref) -> nn.Module | None:
        """The layer that makes a value, if a layer does."""
        return self._layers.get(ref.name)

    def step_of(self, ref: Ref) -> Step | None:
        """The step that makes a value; None for the input."""
        return self._steps.get(ref.name)

    def constant(self, value: Tensor) -> Stored:
        """Carry a tensor."""
        name = f"constant_{len(self._constants)}"
        self._constants[name] = value.contiguous()
        return Stored(name)

    def layer(
        self,
        name: str,
        call: str,
        source: Ref,
        *,
        tensors: Mapping[str, Tensor | None] | None = None,
        **options: Any,
    ) -> Ref:
        """Add a layer that runs on ``source``, with weights where it has any."""
        step = Step(self._fresh(name), call, (source,), options)
        layer = make_layer(step)
        with torch.no_grad():
            own = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
            for key, tensor in (tensors or {}).items():
                if tensor is None:
                    continue
                if own[key].shape != tensor.shape:
                    raise UnsupportedModelError(
                        f"{name}: its {key} has shape {tuple(tensor.shape)}, expected "
                        f"{tuple(own[key].shape)}"
                    )
                own[key].copy_(tensor)
        self._layers[step.name] = layer
        return self._run(step, layer)

    def function(self, call: str, *args: Any, name: str = "", **options: Any) -> Ref:
        """Add a call of a tensor function."""
        step = Step(self._fresh(name or call.split(".")[1]), call, args, options)
        return self._run(step, function(call))

    def finish(self, output: Ref) -> tuple[fx.GraphModule, Wiring]:
        """The module, and the wiring to make it again. Steps that nothing needs are left out."""
        steps = tuple(_needed([*self._steps.values()], output))
        used = {s.name for step in steps for s in _leaves(step) if isinstance(s, Stored)}
        constants = {n: t for n, t in self._constants.items() if n in used}
        described = {
            n: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in constants.items()
        }
        wiring = Wiring(steps, described, output)
        return assemble(wiring, layers=self._layers, constants=constants), wiring

    def _run(self, step: Step, call: Any) -> Ref:
        def example(value: Any) -> Any:
            if isinstance(value, Ref):
                return self._examples[value.name]
            if isinstance(value, Stored):
                return self._constants[value.name]
            if isinstance(value, (list, tuple)):
                return [example(v) for v in value]
            return value

        keywords = {} if step.call in LAYERS else {k: example(v) for k, v in step.options.items()}
        try:
            with torch.no_grad(), self._mode:
                found = call(*example(step.args), **keywords)
        except Exception as error:  # torch raises many kinds for shapes that do not fit
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise UnsupportedModelError(f"{step.name} does not run: {reason[:200]}") from error
        if isinstance(found, FakeTensor) and math.prod(found.shape) > 2**31:
            raise UnsupportedModelError(
                f"{step.name} makes {math.prod(found.shape):,} numbers a photo: too many"
            )
        self._examples[step.name] = found
        self._steps[step.name] = step
        return Ref(step.name)

    def _fresh(self, name: str) -> str:
        """A name that is a Python identifier, and new."""
        clean = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "step"
        if clean[0].isdigit() or hasattr(nn.Module, clean) or clean == INPUT:
            clean = f"n_{clean}"
        fresh = clean
        while fresh in self._examples or fresh in self._constants:
            self._numbers[clean] += 1
            fresh = f"{clean}_{self._numbers[clean]}"
        return fresh


def _needed(steps: list[Step], output: Ref) -> list[Step]:
    wanted, kept = {output.name}, []
    for step in reversed(steps):
        if step.name in wanted:
            kept.append(step)
            wanted |= {leaf.name for leaf in _leaves(step) if isinstance(leaf, Ref)}
    return kept[::-1]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Step):
        return _leaves([value.args, list(value.options.values())])
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value]


def _pack(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"step": value.name}
    if isinstance(value, Stored):
        return {"tensor": value.name}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, (list, tuple)):
        return [_pack(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _pack(v) for k, v in value.items()}
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"step"}:
        return Ref(str(value["step"]))
    if set(value) == {"tensor"}:
        return Stored(str(value["tensor"]))
    if set(value) == {"float"}:
        return float(value["float"])
    if set(value) == {"dtype"}:
        found = getattr(torch, str(value["dtype"]))
        if not isinstance(found, torch.dtype):
            raise DataError(f"{value['dtype']} is no tensor type")
        return found
    return {k: _unpack(v) for k, v in value.items()}
