"""Arithmetic between results, or a result and a number, as Keras writes ``x * 0.5 + y``."""

from __future__ import annotations

from finicky.backbones.keras.settings import Settings

# By the class of the layer, which Keras 3 also uses for its operators.
KINDS = {
    "Add": "add",
    "Subtract": "subtract",
    "Multiply": "multiply",
    "Divide": "divide",
    "TrueDivide": "divide",
    "TFOpLambda": "",
}
# What Keras 2 writes for operators: names of TensorFlow's functions, which we only compare.
_TF_FUNCTIONS = {
    "__operators__.add": "add",
    "math.add": "add",
    "math.subtract": "subtract",
    "math.multiply": "multiply",
    "math.truediv": "divide",
    "math.divide": "divide",
}


def kind_of(settings: Settings) -> str:
    """``add``, ``subtract``, ``multiply`` or ``divide``."""
    if settings.call.kind != "TFOpLambda":
        return KINDS[settings.call.kind]
    name = str(settings.get("function"))
    if name not in _TF_FUNCTIONS:
        raise settings.refuse("function", name, "is refused, it is not in Finicky's list")
    return _TF_FUNCTIONS[name]


def as_affine(
    settings: Settings, kind: str, value: float, number_first: bool
) -> tuple[float, float]:
    """Scale and offset of an operation with one number."""
    if kind == "divide" and not number_first and value != 0:
        return 1.0 / value, 0.0
    if kind == "multiply":
        return value, 0.0
    if kind == "add":
        return 1.0, value
    if kind == "subtract":
        return (-1.0, value) if number_first else (1.0, -value)
    raise settings.refuse("operation", kind, f"with {value} is not supported")
