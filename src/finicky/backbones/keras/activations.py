"""Keras' activation functions by name, and what we call them."""

from __future__ import annotations

from typing import Any

from finicky.backbones.keras.settings import Settings
from finicky.errors import nearest_names

# Keras' name to ours (the builder's table) with fixed parameters.
_SAME: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("relu", {}),
    "relu6": ("relu6", {}),
    "sigmoid": ("sigmoid", {}),
    "tanh": ("tanh", {}),
    "softmax": ("softmax", {"axis": -1}),
    "elu": ("elu", {"alpha": 1.0}),
    "selu": ("selu", {}),
    "swish": ("silu", {}),
    "silu": ("silu", {}),
    "gelu": ("gelu", {"approximate": False}),
    "hard_swish": ("hardswish", {}),
    "hard_silu": ("hardswish", {}),
    "mish": ("mish", {}),
    "softplus": ("softplus", {}),
    "softsign": ("softsign", {}),
    "exponential": ("exponential", {}),
    "leaky_relu": ("leaky_relu", {"slope": 0.2}),
}


def function(settings: Settings, value: Any, keras_3: bool) -> tuple[str, dict[str, Any]] | None:
    """Kind and options of an activation; ``None`` for the linear one.

    ``hard_sigmoid`` changed between Keras 2 (slope 0.2) and Keras 3 (slope 1/6).

    Raises:
        UnsupportedModelError: It is not in the list.
    """
    if isinstance(value, dict):
        return _layer(settings, value, keras_3)
    if value is None or value == "linear":
        return None
    if value == "hard_sigmoid":
        return ("hardsigmoid", {}) if keras_3 else ("hard_sigmoid_2", {})
    if not isinstance(value, str) or value not in _SAME:
        near = nearest_names(str(value)[:60], [*_SAME, "hard_sigmoid", "linear"])
        raise settings.refuse(
            "activation", value, f"is refused, it is not in Finicky's list. {near}"
        )
    return _SAME[value]


def _layer(
    settings: Settings, value: dict[str, Any], keras_3: bool
) -> tuple[str, dict[str, Any]] | None:
    """An activation that Keras wrote as an object: a layer, or a function by its name."""
    kind, config = value.get("class_name"), value.get("config")
    module = str(value.get("module"))
    if kind == "function" and "keras" in module and "activations" in module:
        return function(settings, config, keras_3)
    if not isinstance(config, dict) or kind not in LAYERS:
        raise settings.refuse("activation", kind, "is refused, it is not in Finicky's list")
    inner = type(settings.call)(settings.call.path, str(kind), config, ())
    return LAYERS[kind](Settings(settings.file, inner), keras_3)


def _relu(settings: Settings, keras_3: bool) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
    slope = settings.numbers("negative_slope", 0.0)
    threshold = settings.numbers("threshold", 0.0)
    most = settings.get("max_value")
    if (slope, threshold) == (0.0, 0.0) and most in (None, 6):
        return ("relu", {}) if most is None else ("relu6", {})
    if most is None and threshold == 0.0:
        return "leaky_relu", {"slope": slope}
    limit = None if most is None else settings.number("max_value")
    return "clipped_relu", {"slope": slope, "threshold": threshold, "most": limit}


def _leaky(settings: Settings, keras_3: bool) -> tuple[str, dict[str, Any]]:
    key = "negative_slope" if keras_3 or "negative_slope" in settings.call.config else "alpha"
    return "leaky_relu", {"slope": settings.numbers(key, 0.3)}


def _elu(settings: Settings, keras_3: bool) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
    return "elu", {"alpha": settings.numbers("alpha", 1.0)}


def _softmax(settings: Settings, keras_3: bool) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
    axis = settings.get("axis", -1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if not isinstance(axis, int):
        raise settings.refuse("axis", axis, "is not supported, only one axis")
    return "softmax", {"axis": axis}


def _activation(settings: Settings, keras_3: bool) -> tuple[str, dict[str, Any]] | None:
    return function(settings, settings.get("activation"), keras_3)


# Layers that are nothing but an activation.
LAYERS = {
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky,
    "ELU": _elu,
    "Softmax": _softmax,
}
