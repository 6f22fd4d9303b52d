"""Keras layers to our own list: one function a class, every setting that matters looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finicky.backbones.keras import activations, arithmetic
from finicky.backbones.keras.identities import IDENTITIES
from finicky.backbones.keras.network import Call, Network
from finicky.backbones.keras.recipe import Recipe
from finicky.backbones.keras.settings import Settings
from finicky.backbones.keras.translation import Holder, Translation
from finicky.errors import DataError, UnsupportedModelError

Translator = Callable[["Translation", Settings, tuple[int, ...]], int]


def translate(network: Network, keras_3: bool) -> tuple[Recipe, Translation]:
    """Our list of a network's layers, and where their weights belong.

    Raises:
        UnsupportedModelError: A layer or setting is not in the list; named.
    """
    found = Translation(network.file, keras_3)
    numbers: list[int] = []
    height = width = None
    for call in network.calls:
        settings = Settings(network.file, call)
        if not numbers:
            height, width = _input(found, settings, _order(network))
            numbers.append(0)
        elif call.kind in arithmetic.KINDS:
            numbers.append(_arithmetic(found, settings, numbers))
        else:
            inputs = _inputs(found, call, numbers)
            numbers.append(LAYERS[call.kind](found, settings, inputs))
    if len(found.orders) > 1:
        raise UnsupportedModelError(
            f"{network.file} mixes channels_last and channels_first layers: it is not supported"
        )
    first = found.orders == {"channels_first"}
    return Recipe(height, width, first, tuple(found.entries), numbers[network.output]), found


def _order(network: Network) -> str:
    """The axes' order of the first layer that states one."""
    stated = (call.config.get("data_format") for call in network.calls)
    return next((str(order) for order in stated if order), "channels_last")


def _input(found: Translation, settings: Settings, order: str) -> tuple[int | None, int | None]:
    config = settings.call.config
    if settings.call.kind != "InputLayer":
        raise DataError(f"{settings.file} does not begin with an input")
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    if shape is None:
        shape = [None, 3, None, None] if order == "channels_first" else [None, None, None, 3]
    if not isinstance(shape, list) or len(shape) != 4:
        raise settings.refuse("shape", shape, "is not supported: photos have 3 axes")
    channels = shape.pop(1 if order == "channels_first" else 3)
    if channels not in (3, None):
        raise settings.refuse(
            "shape", shape, f"has {channels} channels; networks for RGB photos (3) are expected"
        )
    for side in shape[1:]:
        if side is not None and not (isinstance(side, int) and 1 <= side <= 1 << 14):
            raise settings.damaged("shape", side, "a side from 1 to 16,384 px")
    found.add("input", "input", ())
    return shape[1], shape[2]


def _inputs(found: Translation, call: Call, numbers: list[int]) -> tuple[int, ...]:
    if not call.inputs or not all(isinstance(i, int) for i in call.inputs):
        raise UnsupportedModelError(
            f"{found.file}: layer {call.name} ({call.kind}) is called with "
            f"{call.inputs or 'nothing'}, expected results of other layers"
        )
    if len(call.inputs) > 1 and call.kind not in MERGES:
        raise UnsupportedModelError(
            f"{found.file}: layer {call.name} ({call.kind}) has {len(call.inputs)} inputs"
        )
    return tuple(numbers[int(i)] for i in call.inputs)


def _activate(found: Translation, settings: Settings, number: int) -> int:
    """The activation that a layer brings, as an entry of its own."""
    chosen = activations.function(settings, settings.get("activation"), found.keras_3)
    if chosen is None:
        return number
    kind, options = chosen
    return found.add(f"{settings.call.name}_{kind}", kind, (number,), **options)


def _hold(found: Translation, settings: Settings, *slots: tuple[str, int | None]) -> None:
    named = [(role, None if n is None else found.entries[n].name) for role, n in slots]
    found.holders.append(Holder(settings.call.path, settings.call.kind, tuple(named)))


def _note_order(found: Translation, settings: Settings) -> None:
    found.orders.add(
        settings.choice("data_format", "channels_last", ("channels_last", "channels_first"))
    )


def _convolution_options(found: Translation, settings: Settings) -> dict[str, Any]:
    _note_order(found, settings)
    return {
        "kernel": settings.pair("kernel_size"),
        "strides": settings.pair("strides", 1),
        "dilation": settings.pair("dilation_rate", 1),
        "same": settings.choice("padding", "valid", ("valid", "same")) == "same",
    }


def _conv(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    bias = settings.flag("use_bias", True)
    options = _convolution_options(found, settings)
    options |= {"filters": settings.count("filters"), "groups": settings.count("groups", 1)}
    number = found.add(settings.call.name, "conv", inputs, bias=bias, **options)
    _hold(found, settings, ("kernel", number), *([("bias", number)] if bias else []))
    return _activate(found, settings, number)


def _depthwise(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    bias = settings.flag("use_bias", True)
    options = _convolution_options(found, settings)
    multiplier = settings.count("depth_multiplier", 1)
    number = found.add(
        settings.call.name, "depthwise", inputs, bias=bias, multiplier=multiplier, **options
    )
    slots = [("depthwise_kernel", number)] + ([("bias", number)] if bias else [])
    _hold(found, settings, *slots)
    return _activate(found, settings, number)


def _separable(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    bias = settings.flag("use_bias", True)
    options = _convolution_options(found, settings)
    multiplier = settings.count("depth_multiplier", 1)
    name = settings.call.name
    first = found.add(
        f"{name}_depthwise", "depthwise", inputs, bias=False, multiplier=multiplier, **options
    )
    ones = {"kernel": [1, 1], "strides": [1, 1], "dilation": [1, 1], "same": False, "groups": 1}
    second = found.add(
        f"{name}_pointwise", "conv", (first,), bias=bias, filters=settings.count("filters"), **ones
    )
    slots = [("depthwise_kernel", first), ("pointwise_kernel", second)]
    _hold(found, settings, *slots, *([("bias", second)] if bias else []))
    return _activate(found, settings, second)


def _dense(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    bias = settings.flag("use_bias", True)
    if settings.get("quantization_mode") or settings.get("lora_rank"):
        raise settings.refuse("quantization_mode", "", "or lora_rank is not supported")
    units = settings.count("units")
    number = found.add(settings.call.name, "dense", inputs, bias=bias, units=units)
    _hold(found, settings, ("kernel", number), *([("bias", number)] if bias else []))
    return _activate(found, settings, number)


def _axis(settings: Settings, default: int = -1) -> int:
    axis = settings.get("axis", default)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if isinstance(axis, bool) or not isinstance(axis, int) or not -4 <= axis <= 3:
        raise settings.refuse("axis", axis, "is not supported, only one axis")
    return axis


def _batch_norm(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    if settings.get("renorm"):
        raise settings.refuse("renorm", True, "is not supported")
    axis, epsilon = _axis(settings), settings.number("epsilon", 1e-3)
    number = found.add(settings.call.name, "batch_norm", inputs, axis=axis, epsilon=epsilon)
    slots = [("gamma", number)] if settings.flag("scale", True) else []
    slots += [("beta", number)] if settings.flag("center", True) else []
    _hold(found, settings, *slots, ("moving_mean", number), ("moving_variance", number))
    return number


def _layer_norm(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    if settings.get("rms_scaling"):
        raise settings.refuse("rms_scaling", True, "is not supported")
    axis, epsilon = _axis(settings), settings.number("epsilon", 1e-3)
    number = found.add(settings.call.name, "layer_norm", inputs, axis=axis, epsilon=epsilon)
    slots = [("gamma", number)] if settings.flag("scale", True) else []
    _hold(found, settings, *slots, *([("beta", number)] if settings.flag("center", True) else []))
    return number


def _pool(kind: str) -> Translator:
    def make(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
        _note_order(found, settings)
        size = settings.pair("pool_size", 2)
        same = settings.choice("padding", "valid", ("valid", "same")) == "same"
        strides = settings.pair("strides", size)
        return found.add(settings.call.name, kind, inputs, kernel=size, strides=strides, same=same)

    return make


def _global_pool(kind: str) -> Translator:
    def make(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
        _note_order(found, settings)
        pooled = found.add(settings.call.name, kind, inputs)
        if settings.flag("keepdims", False):
            return pooled
        return found.add(f"{settings.call.name}_flat", "flatten", (pooled,), plain=True)

    return make


def _sides(kind: str, key: str) -> Translator:
    def make(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
        _note_order(found, settings)
        return found.add(settings.call.name, kind, inputs, sides=settings.sides(key))

    return make


def _upsample(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    _note_order(found, settings)
    mode = settings.choice("interpolation", "nearest", ("nearest", "bilinear"))
    size = settings.pair("size", 2, most=64)
    return found.add(settings.call.name, "upsample", inputs, size=size, mode=mode)


def _resizing(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    """Kept only to be checked: it must leave the size as it is."""
    _note_order(found, settings)
    size = [settings.count("height"), settings.count("width")]
    return found.add(settings.call.name, "same_size", inputs, size=size)


def _flatten(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    _note_order(found, settings)
    return found.add(settings.call.name, "flatten", inputs, plain=False)


def _reshape(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    shape = settings.get("target_shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) for n in shape):
        raise settings.damaged("target_shape", shape, "whole numbers")
    return found.add(settings.call.name, "reshape", inputs, shape=shape)


def _activation_layer(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    chosen = activations.LAYERS[settings.call.kind](settings, found.keras_3)
    if chosen is None:
        return inputs[0]
    return found.add(settings.call.name, chosen[0], inputs, **chosen[1])


def _prelu(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    number = found.add(settings.call.name, "prelu", inputs)
    _hold(found, settings, ("alpha", number))
    return number


def _merge(kind: str) -> Translator:
    def make(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
        return found.add(settings.call.name, kind, inputs)

    return make


def _concatenate(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    return found.add(settings.call.name, "concatenate", inputs, axis=_axis(settings))


def _rescaling(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    scale, offset = settings.numbers("scale", 1.0), settings.numbers("offset", 0.0)
    _note_scaled(found, settings, inputs)
    return found.add(settings.call.name, "affine", inputs, scale=scale, offset=offset)


def _normalization(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    axis = settings.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if settings.get("invert"):
        raise settings.refuse("invert", True, "is not supported")
    if not isinstance(axis, int):
        raise settings.refuse("axis", axis, "is not supported, only the channels' axis")
    _note_scaled(found, settings, inputs)
    number = found.add(settings.call.name, "normalize", inputs, axis=axis)
    options = found.entries[number].options
    assert options is not None
    if settings.get("mean") is not None:
        options |= {
            "mean": settings.numbers("mean", 0.0),
            "variance": settings.numbers("variance", 1.0),
        }
    else:
        _hold(found, settings, ("mean", number), ("variance", number), ("count", None))
    return number


def _note_scaled(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> None:
    """A scaling before anything is learned is preprocessing, brought by the network."""
    learned = {"conv", "depthwise", "dense", "batch_norm", "layer_norm"}
    if not any(entry.kind in learned for entry in found.entries) and inputs:
        found.scaled_inside = True
        found.notes.append(f"{settings.call.kind} {settings.call.name} inside")


def _identity(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:  # noqa: ARG001
    return inputs[0]


def _layer_scale(found: Translation, settings: Settings, inputs: tuple[int, ...]) -> int:
    number = found.add(settings.call.name, "layer_scale", inputs)
    _hold(found, settings, ("gamma", number))
    return number


def _arithmetic(found: Translation, settings: Settings, numbers: list[int]) -> int:
    """Arithmetic between results, or between a result and a number."""
    call, kind = settings.call, arithmetic.kind_of(settings)
    results = [numbers[i] for i in call.inputs if isinstance(i, int)]
    if len(results) == len(call.inputs) and len(results) > 1 and kind != "divide":
        return found.add(call.name, kind, tuple(results))
    if len(call.inputs) != 2 or len(results) != 1:
        raise settings.refuse("inputs", call.inputs, "are not supported")
    left, right = call.inputs
    value = float(right if isinstance(left, int) else left)
    scale, offset = arithmetic.as_affine(settings, kind, value, not isinstance(left, int))
    return found.add(call.name, "affine", (results[0],), scale=scale, offset=offset)


MERGES: dict[str, Translator] = {
    "Average": _merge("average"),
    "Maximum": _merge("maximum"),
    "Minimum": _merge("minimum"),
    "Concatenate": _concatenate,
}
LAYERS: dict[str, Translator] = {
    "Conv2D": _conv,
    "Convolution2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "SeparableConvolution2D": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "BatchNormalizationV1": _batch_norm,
    "SyncBatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "MaxPooling2D": _pool("max_pool"),
    "AveragePooling2D": _pool("average_pool"),
    "GlobalAveragePooling2D": _global_pool("global_average"),
    "GlobalMaxPooling2D": _global_pool("global_max"),
    "ZeroPadding2D": _sides("pad", "padding"),
    "Cropping2D": _sides("crop", "cropping"),
    "UpSampling2D": _upsample,
    "Resizing": _resizing,
    "CenterCrop": _resizing,
    "RandomCrop": _resizing,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "PReLU": _prelu,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "LayerScale": _layer_scale,
    **dict.fromkeys(activations.LAYERS, _activation_layer),
    **dict.fromkeys(IDENTITIES, _identity),
    **MERGES,
}
KNOWN = frozenset(LAYERS) | frozenset(arithmetic.KINDS)
