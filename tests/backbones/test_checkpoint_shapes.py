"""Checkpoints as people save them: each loads, and answers as the network that was saved."""

from __future__ import annotations

import argparse
import datetime
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from finicky.backbones import load_backbone
from finicky.backbones.state_dict import strip_prefix
from finicky.backbones.zoo import fresh
from finicky.errors import DataError, UnsupportedModelError, UsageError

ARCH = "torchvision:mobilenet_v3_small"
State = dict[str, Tensor]
_BIAS, _LAST = "classifier.3.bias", torch.channels_last


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Not as the zoo makes it: weights and statistics that only the file can know; 7 classes."""
    return _trained(ARCH, 7)


def _trained(arch: str, classes: int) -> nn.Module:
    network = fresh(arch, classes).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.is_floating_point() and tensor.ndim <= 1:
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
            elif tensor.is_floating_point():
                tensor *= 1.1
    return network


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def _optimizer(state: State) -> dict[str, Any]:
    moments = {
        i: {"step": torch.tensor(9.0), "exp_avg": t.clone()}
        for i, t in enumerate([*state.values()][:5])
    }
    return {"state": moments, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}]}


def _wrong(state: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


SHAPES: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "ordered": OrderedDict,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "best_acc1": torch.tensor(71.5)},
    "model": lambda s: {"model": s, "optimizer": _optimizer(s), "lr_scheduler": {"last_epoch": 3}},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": _optimizer(s)},
    "model_state": lambda s: {"model_state": s, "loss": 0.5},
    "net": lambda s: {"net": s, "acc": 91.2},
    "module.": lambda s: _prefixed(s, "module."),
    "state_dict module.": lambda s: {"state_dict": _prefixed(s, "module.")},
    "backbone.": lambda s: _prefixed(s, "backbone."),
    "compiled": lambda s: _prefixed(s, "_orig_mod."),
    "compiled, parallel": lambda s: {"model": _prefixed(s, "_orig_mod.module.")},
    "lightning": lambda s: {
        "epoch": 4,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": _prefixed(s, "model.") | {"criterion.weight": torch.ones(7)},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(1.0)}},
        "optimizer_states": [_optimizer(s)],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "root": Path("data"), "args": argparse.Namespace(a=1)},
    },
    "ema beside": lambda s: {"state_dict": _wrong(s), "state_dict_ema": s},
    "model_ema": lambda s: {"model": _wrong(s), "model_ema": _prefixed(s, "module."), "n": 1},
    "ema by prefix": lambda s: _prefixed(_wrong(s), "model.") | _prefixed(s, "ema_model.module."),
    "averaged": lambda s: {"n_averaged": torch.tensor(3)} | _prefixed(s, "module."),
    "numpy numbers": lambda s: {"state_dict": s, "acc": np.float64(0.7), "seen": np.int64(3)},
    "numpy arrays": lambda s: {
        "model": s, "curve": np.arange(5.0), "rng": np.random.RandomState(0).get_state()
    },
    "settings": lambda s: {
        "state_dict": s,
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "when": datetime.datetime(2026, 1, 1),
        "counts": defaultdict(int, a=1),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "names": {"a", "b"},
    },
    "parameters": lambda s: {
        n: nn.Parameter(t) if t.is_floating_point() else t for n, t in s.items()
    },
    "part of a tensor": lambda s: s | {
        _BIAS: torch.cat([torch.ones(2), s[_BIAS], torch.ones(9)])[2:9]
    },
    "channels last": lambda s: {
        n: t.contiguous(memory_format=_LAST) if t.ndim == 4 else t for n, t in s.items()
    },
    "no counters": lambda s: {n: t for n, t in s.items() if not n.endswith("num_batches_tracked")},
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "legacy"),
    [(shape, False) for shape in SHAPES]
    + [(shape, True) for shape in ("plain", "lightning", "model", "part of a tensor", "settings")],
)
def test_shape_answers_as_the_source(
    tmp_path: Path, network: nn.Module, shape: str, legacy: bool
) -> None:
    path = tmp_path / ("c.ckpt" if shape == "lightning" else "c.pth")
    value = SHAPES[shape](network.state_dict())
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    _check_equal(path, ARCH, network)


def _check_equal(path: Path, arch: str, network: nn.Module, *, exact: bool = True) -> None:
    backbone = load_backbone(path, arch=arch)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found, wanted = backbone.whole(x), network(x)
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    assert difference <= (2e-6 if exact else 1e-5)
    assert backbone.provenance.sha256 is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_answer_as_their_own_numbers(
    tmp_path: Path, network: nn.Module, dtype: torch.dtype
) -> None:
    other = fresh(ARCH, 7).eval()
    other.load_state_dict({n: t.to(dtype) for n, t in network.state_dict().items()})
    state = {
        n: t.to(dtype) if t.is_floating_point() else t for n, t in network.state_dict().items()
    }
    torch.save(state, tmp_path / "c.pt")
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "c.safetensors")
    for name in ("c.pt", "c.safetensors"):
        _check_equal(tmp_path / name, ARCH, other)


@pytest.mark.parametrize(
    "arch",
    ["torchvision:resnet18", "torchvision:efficientnet_b0", "timm:mobilenetv3_small_050"],
)
@pytest.mark.parametrize("classes", [1000, 2])
def test_other_networks_and_classes(tmp_path: Path, arch: str, classes: int) -> None:
    network = _trained(arch, classes)
    torch.save({"state_dict": _prefixed(network.state_dict(), "module.")}, tmp_path / "c.pth.tar")
    _check_equal(tmp_path / "c.pth.tar", arch, network)


def test_vgg16_of_torchvision_by_the_built_in_name(tmp_path: Path) -> None:
    from torchvision.models import vgg16

    features = vgg16(weights=None, num_classes=1).features.eval()
    state = _prefixed(features.state_dict(), "module.features.")
    torch.save(
        {"state_dict": state | {"module.classifier.6.bias": torch.ones(1)}}, tmp_path / "v.pth"
    )
    found = load_backbone(tmp_path / "v.pth", arch="vgg16")
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(found.module(x), features(x), rtol=1e-5, atol=1e-6)


def test_a_built_in_network_by_its_own_names(tmp_path: Path) -> None:
    module = load_backbone("alexnet-bn", weights="random").module
    torch.save(_prefixed(module.state_dict(), "module."), tmp_path / "own.pth")
    again = load_backbone(tmp_path / "own.pth", arch="alexnet-bn")
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(again.module(x), module(x))


def test_a_backbone_alone_brings_no_classifier(tmp_path: Path, network: nn.Module) -> None:
    state = {n: t for n, t in network.state_dict().items() if n.startswith("features.")}
    torch.save(_prefixed(state, "encoder."), tmp_path / "b.pth")
    found = load_backbone(tmp_path / "b.pth", arch=ARCH)
    assert found.head is None
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        wanted = network.features(x)  # type: ignore[operator]
        torch.testing.assert_close(found.module(x), wanted, rtol=1e-5, atol=1e-6)


def test_refused_with_the_tensor_that_does_not_fit(tmp_path: Path, network: nn.Module) -> None:
    state, stem = network.state_dict(), "features.0.0.weight"
    cases = {
        "it lacks classifier.3.bias": {n: t for n, t in state.items() if n != _BIAS},
        "it lacks features.0.0.weight": {n: t for n, t in state.items() if n != stem},
        "it holds extra.weight": state | {"extra.weight": torch.ones(2)},
        r"features.0.0.weight has shape \(3,\)": state | {"features.0.0.weight": torch.ones(3)},
    }  # fmt: skip
    for text, value in cases.items():
        torch.save(value, tmp_path / "c.pth")
        with pytest.raises(UnsupportedModelError, match=rf"c\.pth is no checkpoint of .*{text}"):
            load_backbone(tmp_path / "c.pth", arch=ARCH)


def test_a_name_that_lies_is_told(tmp_path: Path, network: nn.Module) -> None:
    save_file(network.state_dict(), tmp_path / "c.safetensors")
    (tmp_path / "c.safetensors").rename(tmp_path / "c.pth")
    with pytest.raises(DataError, match=r"c\.pth is a safetensors file: name it \.safetensors"):
        load_backbone(tmp_path / "c.pth", arch=ARCH)
    with pytest.raises(UsageError, match=r"c\.pth holds weights and no architecture"):
        load_backbone(tmp_path / "c.pth")


def test_prefixes_are_found_whatever_they_are() -> None:
    one = torch.ones(1)
    own = ["a.conv.weight", "b.weight"]
    assert set(strip_prefix({"x.y.a.conv.weight": one, "x.y.b.weight": one}, own)) == set(own)
    assert set(strip_prefix({"a.conv.weight": one, "more": one}, own)) == {"a.conv.weight", "more"}
    assert set(strip_prefix({"other": one}, own)) == {"other"}


def test_a_prefix_a_name_is_no_work_without_end() -> None:
    """Names are looked through once, however many beginnings they have."""
    names = {f"x{i}.{'y.' * (i % 50)}conv.weight": torch.zeros(1) for i in range(100_000)}
    start = time.process_time()
    assert len(strip_prefix(names, {"conv.weight", "conv.bias"})) == 1
    assert time.process_time() - start < 10


def test_a_narrow_tensor_makes_no_million_classes(tmp_path: Path, network: nn.Module) -> None:
    """The head that it claims would take 4 GB, before anything else is seen not to fit."""
    state = network.state_dict() | {"classifier.3.weight": torch.zeros(1 << 20, 1)}
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(UnsupportedModelError, match=r"has shape \(1048576, 1\)"):
        load_backbone(tmp_path / "wide.pth", arch=ARCH)
