"""Write Keras files and what Keras itself answers on them, to compare our reader with.

Runs where TensorFlow is (never in this project's environment), once for each writer:

    python -m venv keras-env && keras-env/bin/pip install tensorflow-cpu keras tf_keras
    keras-env/bin/python benchmarks/keras_models.py OUT --writer 3
    keras-env/bin/python benchmarks/keras_models.py OUT --writer 2 --large

Each model becomes OUT/NAME.kerasW.h5, .keras and NAME.kerasW.npz: ``photos`` uint8 (N, H, W, 3),
``raw`` (whether 0 to 255 is fed, or −1 to 1), ``outputs``. Weights are random, statistics of batch
normalisation too. ``benchmarks/keras_parity.py`` compares.
"""

from __future__ import annotations

import argparse
import importlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

Model = Any
MODELS: dict[str, Callable[[Any], Model]] = {}
ACTIVATIONS = [
    "linear",
    "relu",
    "relu6",
    "sigmoid",
    "tanh",
    "softmax",
    "elu",
    "selu",
    "swish",
    "gelu",
    "hard_sigmoid",
    "mish",
    "softplus",
    "softsign",
    "exponential",
    "leaky_relu",
]


def model(function: Callable[[Any], Model]) -> Callable[[Any], Model]:
    """Register a small model under its function's name."""
    MODELS[function.__name__] = function
    return function


@model
def plain(K: Any) -> Model:
    """The published AlexNet's form: padding same with stride 4, batch normalisation, no head."""
    L = K.layers
    layers = [
        L.Conv2D(6, 11, strides=4, padding="same", activation="relu"),
        L.BatchNormalization(),
        L.MaxPooling2D(3, 2),
        L.Conv2D(8, 5, padding="same", activation="relu"),
        L.MaxPooling2D(3, 2),
        L.Conv2D(5, 3, padding="same", activation="relu"),
        L.MaxPooling2D(2),
    ]
    return K.Sequential([K.Input((75, 90, 3)), *layers])


@model
def with_top(K: Any) -> Model:
    """A VGG in small, with dense layers on the flattened map; compiled."""
    L = K.layers
    layers = [
        L.Conv2D(4, 3, padding="same", activation="relu", name="block1_conv1"),
        L.MaxPooling2D(2, 2, name="block1_pool"),
        L.Conv2D(6, 3, activation="relu", name="block2_conv1"),
        L.MaxPooling2D(2, padding="same"),
        L.Flatten(),
        L.Dense(8, activation="relu", name="fc1"),
        L.Dropout(0.5),
        L.Dense(3, name="predictions"),
    ]
    made = K.Sequential([K.Input((24, 24, 3)), *layers])
    made.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return made


@model
def paddings(K: Any) -> Model:
    """Every kernel × stride × padding, convolved and pooled, at an odd and an even side."""
    L = K.layers
    start = K.Input((29, 34, 3))
    x = L.Conv2D(3, 1)(start)
    vectors = []
    for kernel in (1, 2, 3, 4, 5, 7):
        for stride in (1, 2, 3):
            for padding in ("same", "valid"):
                y = L.Conv2D(2, kernel, strides=stride, padding=padding)(x)
                pool = (L.MaxPooling2D, L.AveragePooling2D)[(kernel + stride) % 2]
                y = pool(max(2, kernel // 2), stride, padding="same")(y)
                vectors.append(L.GlobalAveragePooling2D()(y))
    y = L.Conv2D(3, (3, 5), dilation_rate=2, padding="same")(x)
    y = L.AveragePooling2D((2, 3), (3, 2), padding="same")(y)
    vectors.append(L.GlobalMaxPooling2D()(y))
    return K.Model(start, L.Dense(4)(L.Concatenate()(vectors)))


@model
def strides(K: Any) -> Model:
    """A few of `paddings`, one behind the other, small enough to be kept as a test file."""
    L = K.layers
    layers = [
        L.Conv2D(3, 2, padding="same", activation="relu"),
        L.Conv2D(3, 4, strides=3, padding="same"),
        L.AveragePooling2D(3, 1, padding="same"),
        L.Conv2D(3, (5, 2), strides=(1, 2), padding="same"),
        L.MaxPooling2D((3, 4), 2, padding="same"),
        L.AveragePooling2D(2, 3, padding="same"),
        L.Conv2D(2, 3, strides=2, padding="same"),
    ]
    return K.Sequential([K.Input((61, 94, 3)), *layers])


@model
def residual(K: Any) -> Model:
    L = K.layers
    x = K.Input((32, 32, 3))
    y = L.BatchNormalization()(L.Conv2D(6, 7, strides=2, padding="same", use_bias=False)(x))
    y = L.ReLU()(y)
    short = L.BatchNormalization(scale=False)(L.Conv2D(8, 1, strides=2)(y))
    y = L.Conv2D(8, 3, strides=2, padding="same")(y)
    y = L.Activation("relu")(L.BatchNormalization(center=False)(y))
    y = L.Add()([short, L.Conv2D(8, 3, padding="same")(y)])
    z = L.Conv2D(8, 3, padding="same", activation="relu")(y)
    y = L.Average()([L.Maximum()([y, z]), L.Subtract()([y, z])])
    y = L.GlobalAveragePooling2D()(y)
    return K.Model(x, L.Dense(5)(y))


@model
def squeeze(K: Any) -> Model:
    L = K.layers
    x = K.Input((23, 23, 3))
    y = L.Conv2D(8, 3, strides=2, padding="same", activation="swish")(x)
    s = L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(y))
    s = L.Conv2D(2, 1, activation="relu")(s)
    y = L.Multiply()([y, L.Conv2D(8, 1, activation="sigmoid")(s)])
    y = L.DepthwiseConv2D(3, padding="same")(y)
    s = L.Reshape((1, 1, -1))(L.Dense(8, activation="hard_sigmoid")(L.GlobalMaxPooling2D()(y)))
    y = L.Multiply()([y, s])
    return K.Model(x, L.Dense(3)(L.Flatten()(y)))


@model
def inverted(K: Any) -> Model:
    L = K.layers
    x = K.Input((33, 33, 3))
    y = L.ZeroPadding2D(((0, 1), (0, 1)))(x)
    y = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(4, 3, strides=2, use_bias=False)(y)))
    z = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(12, 1, use_bias=False)(y)))
    z = L.DepthwiseConv2D(3, padding="same", use_bias=False)(z)
    z = L.ReLU(6.0)(L.BatchNormalization()(z))
    y = L.Add()([y, L.BatchNormalization()(L.Conv2D(4, 1, use_bias=False)(z))])
    y = L.DepthwiseConv2D(5, strides=2, padding="same", depth_multiplier=2, activation="relu")(y)
    return K.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(y)))


@model
def concatenated(K: Any) -> Model:
    L = K.layers
    x = K.Input((24, 24, 3))
    y = L.Conv2D(6, 3, padding="same")(x)
    for _ in range(2):
        z = L.Activation("relu")(L.BatchNormalization()(y))
        y = L.Concatenate()([y, L.Conv2D(4, 3, padding="same")(z)])
    y = L.AveragePooling2D(2)(L.Conv2D(7, 1)(y))
    return K.Model(x, L.Dense(3)(L.BatchNormalization()(L.GlobalAveragePooling2D()(y))))


@model
def mixed(K: Any) -> Model:
    """A flattened map beside a pooled one, which no cut can follow."""
    L = K.layers
    x = K.Input((10, 10, 3))
    y = L.Conv2D(4, 3, strides=2, activation="relu")(x)
    parts = [L.Flatten()(y), L.GlobalAveragePooling2D()(y)]
    return K.Model(x, L.Dense(3)(L.BatchNormalization()(L.Concatenate()(parts))))


@model
def separable(K: Any) -> Model:
    L = K.layers
    x = K.Input((25, 27, 3))
    y = L.SeparableConv2D(8, 3, padding="same", activation="relu", depth_multiplier=2)(x)
    y = L.SeparableConv2D(6, 5, strides=2, padding="same", use_bias=False)(y)
    y = L.Conv2D(4, 3, groups=2, padding="same")(y)
    y = L.Conv2D(4, 3, dilation_rate=3, padding="same")(y)
    y = L.Cropping2D(((1, 0), (0, 2)))(L.UpSampling2D(2)(y))
    y = L.UpSampling2D((1, 2), interpolation="bilinear")(y)
    return K.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y)))


@model
def activations(K: Any) -> Model:
    L = K.layers
    x = K.Input((12, 12, 3))
    y = L.Conv2D(5, 3)(x)
    outputs = [L.Activation(name)(y) for name in ACTIVATIONS if hasattr(K.activations, name)]
    slope = "negative_slope" if K.__version__ >= "3" else "alpha"
    more = [
        L.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.3),
        L.ReLU(negative_slope=0.2),
        L.LeakyReLU(**{slope: 0.15}),
        L.ELU(0.7),
        L.Softmax(),
        L.PReLU(shared_axes=[1, 2]),
    ]
    outputs += [layer(y) for layer in more]
    return K.Model(x, L.GlobalAveragePooling2D()(L.Concatenate()(outputs)))


@model
def nested(K: Any) -> Model:
    L = K.layers
    start = K.Input((16, 16, 3))
    y = L.Conv2D(4, 3, name="c1")(start)
    base = K.Model(start, L.BatchNormalization(name="b1")(y), name="base")
    base.trainable = False
    top = K.Sequential([K.Input((14, 14, 4)), L.Conv2D(5, 3, name="c2"), L.ReLU()], name="top")
    x = K.Input((16, 16, 3))
    y = L.RandomFlip()(x)
    y = L.Dropout(0.2)(top(base(y, training=False)))
    return K.Model(x, L.Dense(2)(L.Flatten()(y)))


@model
def scaled(K: Any) -> Model:
    """Preprocessing inside the network: 0 to 255 goes in."""
    L = K.layers
    x = K.Input((16, 18, 3))
    norm = L.Normalization()
    norm.adapt(np.random.default_rng(1).random((8, 16, 18, 3)).astype("f4"))
    y = norm(L.Rescaling(1 / 255.0)(x))
    y = L.Conv2D(4, 3, activation="relu")(y)
    y = y * 0.5 + 1.0
    y = L.LayerNormalization()(y)
    return K.Model(x, L.Dense(2)(L.GlobalAveragePooling2D(keepdims=True)(y)))


@model
def slashes(K: Any) -> Model:
    """Names with slashes, which Keras 3 does not allow, and no input layer stated."""
    L = K.layers
    mark = "/" if K.__version__ < "3" else "_"
    layers = [
        L.Conv2D(4, 3, name=f"block{mark}conv{mark}1", input_shape=(14, 15, 3)),
        L.BatchNormalization(name=f"block{mark}bn"),
        L.PReLU(shared_axes=[1, 2], name=f"block{mark}p"),
        L.Flatten(),
        L.BatchNormalization(name="bn"),
        L.Dense(2, name=f"top{mark}dense"),
    ]
    return K.Sequential(layers, name="net")


# What is kept beside the tests: one file a model, both writers and both formats in turn.
FIXTURES: dict[str, tuple[int, str]] = {
    "plain": (2, ".h5"),
    "with_top": (2, ".h5"),
    "strides": (3, ".keras"),
    "residual": (3, ".h5"),
    "squeeze": (2, ".keras"),
    "inverted": (2, ".h5"),
    "concatenated": (3, ".h5"),
    "mixed": (3, ".keras"),
    "separable": (3, ".keras"),
    "activations": (2, ".h5"),
    "nested": (2, ".h5"),
    "nested_3": (3, ".keras"),
    "scaled": (3, ".keras"),
    "scaled_2": (2, ".h5"),
    "slashes": (2, ".keras"),
}
APPLICATIONS: dict[str, int] = {
    "VGG16": 64,
    "ResNet50": 64,
    "ResNet50V2": 65,
    "MobileNet": 64,
    "MobileNetV2": 65,
    "MobileNetV3Small": 64,
    "DenseNet121": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "Xception": 75,
    "InceptionV3": 79,
    "NASNetMobile": 64,
    "ConvNeXtTiny": 64,
}


def application(K: Any, name: str) -> Model:
    """One of Keras' own architectures, ten classes, without a softmax."""
    size = APPLICATIONS[name]
    make = getattr(K.applications, name)
    return make(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)


def _random(name: str, shape: Any, rng: np.random.Generator) -> np.ndarray:
    shape = tuple(shape)
    if "kernel" in name:
        fan = np.prod(shape[:2]) if "depthwise" in name else np.prod(shape[:-1])
        return rng.normal(0, np.sqrt(1.5 / fan), shape)
    if name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 0.1, shape)


def all_layers(made: Model) -> list[Any]:
    """Every layer that is no network itself."""
    found = []
    for layer in made.layers:
        found += all_layers(layer) if getattr(layer, "layers", None) else [layer]
    return found


def write(made: Model, name: str, folder: Path, writer: int, formats: list[str]) -> None:
    """Files of one model, and its outputs."""
    rng = np.random.default_rng(len(name))
    for layer in all_layers(made):
        if layer.weights and type(layer).__name__ not in ("Normalization", "RandomFlip", "Dropout"):
            values = [
                _random(w.name.split("/")[-1].split(":")[0], w.shape, rng) for w in layer.weights
            ]
            layer.set_weights(values)
    height, width = made.input_shape[1:3]
    photos = rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    kinds = {type(layer).__name__ for layer in all_layers(made)}
    raw = bool(kinds & {"Rescaling", "Normalization"})
    x = photos.astype("f4") if raw else photos.astype("f4") / 127.5 - 1
    outputs = np.asarray(made(x, training=False))
    stem = f"{name}.keras{writer}"
    np.savez_compressed(folder / f"{stem}.npz", photos=photos, raw=raw, outputs=outputs)
    for ending in formats:
        save = made.save_weights if ending == ".weights.h5" else made.save
        save(str(folder / f"{stem}{ending}"))
        if ending == ".keras":
            pack(folder / f"{stem}{ending}")
    print(f"{stem}: outputs {outputs.shape}, largest {np.abs(outputs).max():.3g}", flush=True)


def pack(path: Path) -> None:
    """Deflate an archive, which Keras writes stored; small HDF5 files are mostly zeros."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--writer", type=int, choices=(2, 3), default=3)
    parser.add_argument("--large", action="store_true", help="Keras' applications too")
    parser.add_argument("--fixtures", action="store_true", help="only what the tests keep")
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    K = importlib.import_module("keras" if options.writer == 3 else "tf_keras")
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.only or [*MODELS, *(APPLICATIONS if options.large else [])]
    for name in names:
        K.backend.clear_session()
        made = MODELS[name](K) if name in MODELS else application(K, name)
        formats = [".h5", ".keras"]
        if options.fixtures:
            kept = [FIXTURES.get(name), FIXTURES.get(f"{name}_{options.writer}")]
            formats = [k[1] for k in kept if k is not None and k[0] == options.writer]
        if formats:
            write(made, name, options.out, options.writer, formats)


if __name__ == "__main__":
    main()
