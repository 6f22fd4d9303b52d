"""A program's graph, node by node, as a `Draft` of our layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from finicky.backbones.program.document import Document, Named, Node, ScalarType
from finicky.backbones.program.sizes import ARITHMETIC, compute, is_check
from finicky.backbones.vocabulary import FUNCTIONS, function
from finicky.backbones.wiring import INPUT, Draft, Ref, Wiring
from finicky.errors import UnsupportedModelError

# PyTorch's codes of types in these files.
DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
# What makes tensors of numbers alone; computed while reading, like all that needs no photo.
MAKERS = frozenset(
    f"aten.{name}"
    for name in [
        "arange.default",
        "arange.start",
        "arange.start_step",
        "batch_norm.default",  # of weights that are standardised in every pass
        "full.default",
        "full_like.default",
        "lift_fresh_copy.default",
        "ones.default",
        "ones_like.default",
        "scalar_tensor.default",
        "std.dim",
        "var.dim",
        "zeros.default",
        "zeros_like.default",
    ]
)
# Numbers that may be made while reading, and so many times those that the file holds on top:
# weights are transposed and standardised on the way, and copied into layers.
_MADE, _TIMES = 1 << 27, 8
_AMISS = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, StopIteration),
    *(TypeError, ValueError),
)
_MOST_MACS = 4e12  # a photo: 20 times the largest classifier there is


@dataclass(frozen=True)
class Converted:
    """A program as layers."""

    module: fx.GraphModule
    wiring: Wiring
    size: int
    batch: int
    channels_last: bool
    byte_input: bool


def convert(document: Document, tensors: Mapping[str, Tensor]) -> Converted:
    """Rewrite a program.

    Args:
        document: Its graph.
        tensors: Its weights, by their names in the network.

    Raises:
        UnsupportedModelError: It has an operator, input or type that Finicky does not know.
    """
    size, batch, last = _photo(document)
    draft = Draft((batch, 3, size, size))
    first: Ref = Ref(INPUT)
    if last:
        first = draft.function("aten.permute.default", first, [0, 2, 3, 1])
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    room = _MADE + _TIMES * sum(held.values()) // 4
    reading = Reading(draft, dict(document.weights), room)
    reading.values |= {name: tensors[key] for name, key in document.weights.items()}
    reading.values |= {**document.constants, document.photo: first}
    for node in document.nodes:
        reading.node(node)
    answer = reading.values.get(document.output)
    if not isinstance(answer, Ref):
        raise UnsupportedModelError("its output does not depend on the photo")
    if reading.macs > _MOST_MACS * batch:
        raise UnsupportedModelError(f"it takes {reading.macs / batch:.0e} MACs a photo: too many")
    module, wiring = draft.finish(answer)
    return Converted(module, wiring, size, batch, last, document.code == 1)


def _photo(document: Document) -> tuple[int, int, bool]:
    """Side, batch, and whether channels come last."""
    shape = document.shape
    if document.code not in (1, 7):
        kind = DTYPES.get(document.code, f"type {document.code}")
        raise UnsupportedModelError(f"its input is of {kind}; float32 or uint8 is expected")
    last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    if len(shape) != 4 or (shape[3] if last else shape[1]) != 3:
        raise UnsupportedModelError(
            f"its input has shape {list(shape)[:8]}; (N, 3, H, W) or (N, H, W, 3), colour, is "
            "expected"
        )
    height, width = shape[1:3] if last else shape[2:]
    if height != width or not 1 <= height <= 2048:
        raise UnsupportedModelError(
            f"its photos are {height} by {width} px; squares up to 2048 px are expected"
        )
    batch = 2 if document.open_batch else shape[0]
    if not 1 <= batch <= 64:
        raise UnsupportedModelError(f"its input of {batch} photos is too large")
    return height, batch, last


class Reading:
    """The state of a conversion: what each of the program's values is by now."""

    def __init__(self, draft: Draft, names: dict[str, str], room: int) -> None:
        self.draft = draft
        self.names = names
        self.room = room  # for numbers that are made while reading
        self.values: dict[str, Any] = {}
        self.macs = 0.0

    def node(self, node: Node) -> None:
        """Convert one call; compute it where all that it takes is known."""
        target = node.target.removeprefix("torch.ops.")
        if is_check(target):
            return
        if target in ARITHMETIC:
            self._set(node, [compute(target, (self.resolve(v) for _, v in node.positional))])
            return
        call = Call(self, node, functional(target))
        try:
            found = self._convert(call)
            results = list(found) if isinstance(found, tuple) else [found]
            self._set(node, results)
            if call.plain != target:
                self._overwrite(call, results[0])
        except UnsupportedModelError:
            raise
        except _AMISS as error:  # arguments that are missing, or are not what PyTorch would write
            raise call.refusal("cannot be read") from error

    def _convert(self, call: Call) -> Any:
        from finicky.backbones.program.operators import OPERATORS

        known = not any(isinstance(leaf, Ref) for leaf in leaves(list(call.arguments.values())))
        if known and (call.plain in FUNCTIONS or call.plain in MAKERS):
            return self._compute(call)
        if call.plain in OPERATORS:
            found = OPERATORS[call.plain](call)
            self.spend(call, found)
            return found
        if call.plain in FUNCTIONS:
            return call.function(call.plain)
        raise call.refusal("is not known to Finicky")

    def spend(self, call: Call, made: Any) -> None:
        """Count the numbers that a call makes, if they are tensors.

        Raises:
            UnsupportedModelError: They are more than any network needs, all calls together.
        """
        self.room -= sum(t.numel() for t in leaves(made) if isinstance(t, Tensor))
        if self.room < 0:
            raise call.refusal("makes more numbers than Finicky takes")

    def resolve(self, value: Any) -> Any:
        """What an argument is by now."""
        if isinstance(value, Named):
            if value.name not in self.values:
                raise UnsupportedModelError(f"its graph takes {value.name!r:.80}, which is unset")
            return self.values[value.name]
        if isinstance(value, ScalarType):
            return DTYPES.get(value.code)
        return [self.resolve(v) for v in value] if isinstance(value, list) else value

    def _compute(self, call: Call) -> Any:
        """The result on real numbers, once its size is known to be harmless."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        operation = resolve_operator(call.plain)
        positional, keywords = call.plain_arguments()
        try:
            with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):
                made = operation(*positional, **keywords)
            self.spend(call, made)
            with torch.no_grad():
                return operation(*positional, **keywords)
        except UnsupportedModelError:
            raise
        except Exception as error:  # torch raises many kinds for shapes that do not fit
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise call.refusal(f"does not run: {reason[:120]}") from error

    def _set(self, node: Node, results: list[Any]) -> None:
        for output, value in zip(node.outputs, results, strict=False):
            if isinstance(output, str):
                self.values[output] = value
                continue
            for number, name in enumerate(output):
                self.values[name] = self._part(value, number)

    def _part(self, value: Any, number: int) -> Any:
        if isinstance(value, Ref):
            return self.draft.function("python.getitem", value, number)
        return value[number]

    def _overwrite(self, call: Call, new: Any) -> None:
        """A call in place changes what all names of its first argument stand for."""
        old = next(iter(call.arguments.values()))
        if isinstance(old, Tensor):
            raise call.refusal("changes the network's own weights")
        for name, value in self.values.items():
            if value is old:
                self.values[name] = new


class Call:
    """One node with its arguments at hand, by their names in PyTorch."""

    def __init__(self, reading: Reading, node: Node, plain: str) -> None:
        self.reading, self.draft, self.node, self.plain = reading, reading.draft, node, plain
        self.given = [name for name, _ in node.positional]
        self.arguments: dict[str, Any] = {
            name: reading.resolve(value)
            for name, value in [*node.positional, *node.keywords.items()]
        }

    def get(self, name: str, default: Any = None) -> Any:
        """An argument; None counts as left out."""
        value = self.arguments.get(name)
        return default if value is None else value

    def ref(self) -> Ref:
        """The first argument, which must depend on the photo."""
        value = next(iter(self.arguments.values()), None)
        if not isinstance(value, Ref):
            raise self.refusal("takes no map")
        return value

    def tensor(self, name: str) -> Tensor | None:
        """A weight, as floats."""
        value = self.arguments.get(name)
        if value is not None and not isinstance(value, Tensor):
            raise self.refusal(f"takes a {name} that depends on the photo")
        return None if value is None else value.detach().float()

    def whole(self, name: str, default: int) -> int:
        """A number that must be known."""
        value = self.get(name, default)
        if not isinstance(value, int):
            raise self.refusal(f"takes a {name} that is no number")
        return value

    def pair(self, name: str, default: Any) -> list[int]:
        """Two numbers, of which one may stand for both."""
        value = self.get(name) or default
        value = [value] if isinstance(value, int) else list(value)
        if len(value) not in (1, 2) or not all(isinstance(n, int) for n in value):
            raise self.refusal(f"works along {len(value)} axes; photos have 2")
        return value * 2 if len(value) == 1 else value

    def shape(self) -> tuple[int, ...]:
        """Of the first argument."""
        return self.draft.shape(self.ref())

    def name(self, weight: str = "weight") -> str:
        """What to call a layer: as its weights are called."""
        for given, value in (*self.node.positional, *self.node.keywords.items()):
            if given == weight and isinstance(value, Named):
                known = self.reading.names.get(value.name, "")
                if known.endswith((".weight", ".bias")):
                    return known.rpartition(".")[0]
        return self.output

    @property
    def output(self) -> str:
        """Name of the first value that the node makes."""
        first = self.node.outputs[0] if self.node.outputs else ""
        return str(first[0] if isinstance(first, list) and first else first) or "step"

    def layer(self, kind: str, name: str = "", **options: Any) -> Ref:
        """Add a layer on the first argument."""
        tensors = options.pop("tensors", None)
        self.reading.spend(self, list((tensors or {}).values()))
        found = self.draft.layer(name or self.output, kind, self.ref(), tensors=tensors, **options)
        weight = (tensors or {}).get("weight")
        if weight is not None and weight.ndim >= 2:
            shape = self.draft.shape(found)
            numbers = float(torch.Size(shape).numel())
            self.reading.macs += numbers * weight[0].numel()
        return found

    def function(self, plain: str) -> Any:
        """Add the call as it is, known tensors carried along."""
        positional, keywords = self.plain_arguments()

        def carried(value: Any) -> Any:
            if isinstance(value, Tensor):
                kept = value.detach()
                return self.draft.constant(kept.float() if kept.is_floating_point() else kept)
            return [carried(v) for v in value] if isinstance(value, list) else value

        return self.draft.function(
            plain,
            *(carried(v) for v in positional),
            name=self.output,
            **{key: carried(v) for key, v in keywords.items()},
        )

    def plain_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """As they were given."""
        positional = [self.arguments[name] for name in self.given]
        keywords = {k: v for k, v in self.arguments.items() if k not in self.given}
        return positional, keywords

    def refusal(self, reason: str) -> UnsupportedModelError:
        """An error that names this node."""
        return UnsupportedModelError(f"operator {self.node.target:.80} ({self.output}) {reason}")


def functional(target: str) -> str:
    """The form of an operator that changes nothing in place."""
    parts = target.split(".")
    if len(parts) == 3 and parts[0] == "aten" and parts[1].endswith("_"):
        return ".".join([parts[0], parts[1].rstrip("_"), parts[2]])
    return target


def resolve_operator(plain: str) -> Callable[..., Any]:
    """PyTorch's own operator of a listed name."""
    if plain in MAKERS:
        _, name, overload = plain.split(".")
        found: Callable[..., Any] = getattr(getattr(torch.ops.aten, name), overload)
        return found
    return function(plain)


def leaves(value: Any) -> list[Any]:
    """What nested lists hold."""
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in leaves(v)]
    return [value]
