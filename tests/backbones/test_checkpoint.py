"""Weights alone, with --arch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from finicky.backbones import load_backbone
from finicky.errors import UnsupportedModelError


def _alexnet() -> dict[str, Tensor]:
    module = load_backbone("alexnet", weights="random").module
    numbers = iter([0, 3, 6, 8, 10])
    names = [f"features.{n}.{kind}" for n in numbers for kind in ("weight", "bias")]
    tensors = (t + 1 for t in module.state_dict().values())
    return dict(zip(names, tensors, strict=True))


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model", "model_ema", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("new_format", [True, False])
def test_shapes_of_real_checkpoints(
    tmp_path: Path, wrapper: str, prefix: str, new_format: bool
) -> None:
    tensors = {prefix + name: t for name, t in _alexnet().items()}
    beside = {"epoch": 3, "optimizer": {"state": {}, "lr": 0.1}}
    value = {wrapper: tensors, **beside} if wrapper else tensors
    path = tmp_path / "c.pth"
    torch.save(value, path, _use_new_zipfile_serialization=new_format)
    found = load_backbone(path, arch="alexnet").module.state_dict()
    assert torch.equal(found["conv3.weight"], tensors[f"{prefix}features.6.weight"])


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "r.pth")
    with pytest.raises(UnsupportedModelError, match=r"r\.pth holds layer1\.0\.conv1\.weight"):
        load_backbone(tmp_path / "r.pth", arch="alexnet")
