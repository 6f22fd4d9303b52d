"""JSON from strangers: bounded, and free of references to anything but Keras' own parts.

Keras' own loader looks up modules and functions by the names in a config. We never do; but a file
that names others asks for code that we do not have, so it is refused by the field's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from finicky.errors import DataError, UnsupportedModelError

MAX_JSON_BYTES = 16 << 20
MAX_NESTING = 200

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
# Parts of Keras that a layer's config may name; they matter to training, and we only skip them.
_PARTS = re.compile(
    r"(?:tf_keras|keras|tensorflow\.keras|tensorflow\.python\.keras)(?:\.src)?"
    r"(?:\.(?:initializers|regularizers|constraints|dtype_policies|mixed_precision|layers|"
    r"activations|ops|models|engine|losses|metrics|optimizers|quantizers)(?:\.\w+)*)?"
    r"|tensorflow\.python\.ops\.init_ops(?:_v2)?"
)
_SETTINGS = {
    "initializer": re.compile(
        r"(?:Zeros|Ones|Constant|Random(?:Normal|Uniform)|TruncatedNormal|VarianceScaling|"
        r"Orthogonal|Identity(?:Initializer)?|(?:Glorot|He|Lecun)(?:Normal|Uniform)|STFT)(?:V2)?"
    ),
    "regularizer": re.compile(r"L1|L2|L1L2|OrthogonalRegularizer"),
    "constraint": re.compile(r"MaxNorm|NonNeg|UnitNorm|MinMaxNorm|RadialConstraint"),
    "dtype": re.compile(r"DTypePolicy|Policy|FloatDTypePolicy|DTypePolicyMap|QuantizedDTypePolicy"),
}
_PLAIN = {"__keras_tensor__", "__tuple__", "__numpy__", "TypeSpec", "TensorShape", "slice"}


def parse_json(text: str, name: str) -> Any:
    """Parse JSON of bounded size and depth, without NaN and without repeated keys.

    Raises:
        DataError: It is none; ``name`` says of what file and part.
    """
    if len(text) > MAX_JSON_BYTES:
        raise DataError(
            f"{name} has {len(text):,} characters of JSON, at most {MAX_JSON_BYTES:,} are read"
        )
    depth = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        depth += (first in "[{") - (first in "]}")
        if depth > MAX_NESTING:
            raise DataError(f"{name} nests its JSON more than {MAX_NESTING} deep")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not plain JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"it holds {name}")


def check_settings(layer: str, config: dict[str, Any], name: str) -> None:
    """Refuse a layer's config that names anything but Keras' own parts.

    Args:
        layer: The layer's name, for messages.
        config: Its settings.
        name: The file, for messages.
    """
    for path, value in _objects(config):
        kind, module = value.get("class_name"), value.get("module")
        field = path[0]
        if kind in _PLAIN:
            continue
        where = f"{name}: layer {layer} is refused: its {'.'.join(path)}"
        known = next((p for end, p in _SETTINGS.items() if end in field), None)
        if module is not None and not (isinstance(module, str) and _PARTS.fullmatch(module)):
            raise UnsupportedModelError(f"{where} names {kind!s} of module {module!s}. {_REMEDY}")
        if field == "activation" and known is None:
            continue  # the layer list decides
        if known is None or not (isinstance(kind, str) and known.fullmatch(kind)):
            raise UnsupportedModelError(f"{where} names {kind!s}, no part of Keras. {_REMEDY}")


_REMEDY = "Finicky runs no code from files: save the network again with Keras' own layers only"


def check_training(config: Any, name: str) -> None:
    """Refuse a training config that names modules outside Keras; it is not read otherwise.

    Losses and metrics of one's own (``builtins``, a name) are common there and harmless to us.
    """
    for path, value in _objects(config):
        module = value.get("module")
        plain = module in (None, "builtins", "__main__")
        if not plain and not (isinstance(module, str) and _PARTS.fullmatch(module)):
            raise UnsupportedModelError(
                f"{name}: the training config is refused: its {'.'.join(path) or 'root'} names "
                f"{value.get('class_name')!s} of module {module!s}. {_REMEDY}"
            )


def _objects(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Every serialised object (something with a class name or a module) below a value."""
    if isinstance(value, dict):
        if path and ("class_name" in value or "module" in value):
            yield path, value
        for key, inner in value.items():
            yield from _objects(inner, (*path, str(key)[:60]))
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner, path or ("config",))
