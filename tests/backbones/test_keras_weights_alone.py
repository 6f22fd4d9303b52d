"""Keras weights without an architecture, into networks known by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from finicky.backbones import load_backbone
from finicky.backbones.backbone import CAFFE_BGR, PREPROCESSINGS
from finicky.errors import DataError, UnsupportedModelError, UsageError


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """alexnet-bn with statistics of its own."""
    module = load_backbone("alexnet-bn", weights="random").module
    with torch.no_grad():
        for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.copy_(torch.rand(len(tensor)) + 0.5)  # type: ignore[union-attr, arg-type]
    return module


def arrays(module: nn.Module) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Keras' class and arrays of each layer with weights."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            kernel = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
            yield "conv2d", [kernel, layer.bias.detach().numpy()]  # type: ignore[union-attr]
        elif isinstance(layer, nn.BatchNorm2d):
            own = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            yield "batch_normalization", [t.detach().numpy() for t in own]  # type: ignore[union-attr]


def write_keras_3(path: Path, module: nn.Module, top: bool = True) -> Path:
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        for kind, values in arrays(module):
            number = counts.get(kind, 0)
            counts[kind] = number + 1
            group = file.create_group(f"layers/{kind}{f'_{number}' if number else ''}/vars")
            for place, value in enumerate(values):
                group[str(place)] = value
        if top:
            file["layers/dense/vars/0"] = np.zeros((4, 2), "f4")
            file["optimizer/vars/0"] = np.zeros((3, 3, 1, 1), "f4")
    return path


def write_keras_2(path: Path, module: nn.Module) -> Path:
    names = ["z_conv", "bn", "a_conv", "conv_10", "conv_9", "b"]  # order is the list's, no name's
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [n.encode() for n in names]
        for name, (kind, values) in zip(names, arrays(module), strict=True):
            roles = ["kernel", "bias"] if kind == "conv2d" else ["gamma", "beta", "mean", "var"]
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{role}:0".encode() for role in roles]
            for role, value in zip(roles, values, strict=True):
                group[f"{name}/{role}:0"] = value
    return path


@pytest.mark.parametrize("keras", [2, 3])
def test_weights_alone_fill_a_known_chain(keras: int, network: nn.Module, tmp_path: Path) -> None:
    write, name = ((write_keras_2, "x.h5"), (write_keras_3, "x.weights.h5"))[keras - 2]
    backbone = load_backbone(write(tmp_path / name, network), arch="alexnet-bn")
    assert (backbone.name, backbone.preprocessing) == ("alexnet-bn", CAFFE_BGR)
    assert backbone.blueprint is not None and backbone.blueprint.kind == "builtin"
    assert "Keras weights alone, of alexnet-bn" in backbone.provenance.source
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(backbone.module(x), network(x))


def test_preprocessing_can_be_said(network: nn.Module, tmp_path: Path) -> None:
    path = write_keras_3(tmp_path / "x.weights.h5", network)
    backbone = load_backbone(path, arch="alexnet-bn", preprocessing="unit")
    assert backbone.preprocessing == PREPROCESSINGS["unit"]


def test_another_architecture_is_refused_by_layer(network: nn.Module, tmp_path: Path) -> None:
    path = write_keras_3(tmp_path / "x.weights.h5", network)
    with pytest.raises(UnsupportedModelError, match=r"holds 5 convolutions where this .* has 13"):
        load_backbone(path, arch="vgg16")
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d_1/vars/1"]
        file["layers/conv2d_1/vars/1"] = np.zeros(7, "f4")
    with pytest.raises(
        UnsupportedModelError, match=r"layer layers/conv2d_1 has arrays of .*\(7,\)"
    ):
        load_backbone(path, arch="alexnet-bn")


def test_networks_that_keras_pads_otherwise_are_refused(network: nn.Module, tmp_path: Path) -> None:
    path = write_keras_3(tmp_path / "x.weights.h5", network)
    with pytest.raises(UsageError, match=r"plain chain .*got --arch torchvision:mobilenet_v2"):
        load_backbone(path, arch="torchvision:mobilenet_v2")


def test_a_whole_model_needs_no_architecture() -> None:
    path = Path(__file__).parent / "keras_files" / "with_top.keras2.h5"
    with pytest.raises(UsageError, match="brings its own architecture: leave --arch out"):
        load_backbone(path, arch="vgg16")


def test_a_listed_array_that_is_missing_is_named(network: nn.Module, tmp_path: Path) -> None:
    path = write_keras_2(tmp_path / "x.h5", network)
    with h5py.File(path, "r+") as file:
        del file["bn/bn/beta:0"]
    with pytest.raises(DataError, match="bn/bn/beta:0 of layer bn is not in the file"):
        load_backbone(path, arch="alexnet-bn")
