"""A program run as it stands, one operator after the other: what the layers must agree with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from finicky.backbones.program.convert import DTYPES, MAKERS, functional
from finicky.backbones.program.document import Document, Named, ScalarType
from finicky.backbones.program.operators import OPERATORS
from finicky.backbones.program.sizes import ARITHMETIC, compute, is_check
from finicky.backbones.vocabulary import FUNCTIONS
from finicky.errors import UnsupportedModelError


def run(document: Document, tensors: Mapping[str, Tensor], photos: Tensor) -> Tensor:
    """The answer of a program that `convert` took, in its own operators, in place and all.

    Args:
        document: The graph.
        tensors: Its weights.
        photos: In the shape and type that it takes.
    """
    values: dict[str, Any] = {name: tensors[key] for name, key in document.weights.items()}
    values |= {**document.constants, document.photo: photos.clone()}

    def resolve(value: Any) -> Any:
        if isinstance(value, Named):
            return values[value.name]
        if isinstance(value, ScalarType):
            return DTYPES[value.code]
        return [resolve(v) for v in value] if isinstance(value, list) else value

    with torch.inference_mode():
        for node in document.nodes:
            target = node.target.removeprefix("torch.ops.")
            if is_check(target):
                continue
            positional = [resolve(value) for _, value in node.positional]
            keywords = {name: resolve(value) for name, value in node.keywords.items()}
            found = _operator(target)(*positional, **keywords)
            outputs = list(node.outputs)
            results = [found] if len(outputs) == 1 else list(found)
            for output, value in zip(outputs, results, strict=False):
                if isinstance(output, str):
                    values[output] = value
                else:
                    values |= dict(zip(output, value, strict=False))
    answer = values[document.output]
    assert isinstance(answer, Tensor)
    return answer


_VIEWS = dict.fromkeys(("aten.view.default", "aten._unsafe_view.default"), "aten.reshape.default")


def _operator(target: str) -> Callable[..., Any]:
    """PyTorch's own, of those that are listed; also the forms in place."""
    if target in ARITHMETIC:
        return lambda *values: compute(target, values)
    plain = functional(target)
    if plain not in FUNCTIONS and plain not in MAKERS and plain not in OPERATORS:
        raise UnsupportedModelError(f"operator {target:.80} is not known to Finicky")
    # Where and how tensors lie was dropped on reading, on which a view may depend.
    target = _VIEWS.get(plain, target)
    _, name, overload = target.split(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, name), overload)
    return found
