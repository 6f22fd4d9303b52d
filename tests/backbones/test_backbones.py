"""Built-in backbones: shapes, published counts, weights, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from finicky.backbones import ARCHITECTURES, convolutions, load_backbone, save_backbone
from finicky.backbones.alexnet import SameConv2d
from finicky.backbones.backbone import CAFFE_BGR, Preprocessing
from finicky.backbones.state_dict import read_tensors
from finicky.errors import DataError, UnsupportedModelError, UsageError
from support import require_shipped_weights


@pytest.mark.parametrize(
    ("name", "params", "convs"),
    [
        ("vgg16", 14_714_688, 13),  # Keras' VGG16 without its top
        ("alexnet", 2_469_696, 5),  # torchvision's AlexNet.features
        ("alexnet-bn", 3_747_392, 5),  # published: 3.75 M
        ("efficientnet-lite0", 3_371_008, 49),
    ],
)
def test_parameters_equal_the_published_networks(name: str, params: int, convs: int) -> None:
    module = load_backbone(name, weights="random").module
    assert sum(p.numel() for p in module.parameters()) == params
    assert len(convolutions(module)) == convs


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_smallest_size_works_and_is_checked(name: str) -> None:
    backbone = load_backbone(name, weights="random")
    size = backbone.min_size
    assert min(backbone.module(torch.zeros(1, 3, size, size)).shape) >= 1
    with pytest.raises(UsageError, match=f"at least {size} px, got {size - 1}"):
        backbone.check_size(size - 1)


def test_preprocessing_turns_rgb_bytes_into_what_the_weights_expect() -> None:
    photo = torch.tensor([[[[255, 0, 10]]]], dtype=torch.uint8)
    found = CAFFE_BGR(photo)[0, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor([10 - 103.939, -116.779, 255 - 123.68]))
    scaled = Preprocessing("rgb", (5.0, 0.0, 0.0), (2.0, 1.0, 1.0))(photo)[0, :, 0, 0]
    torch.testing.assert_close(scaled, torch.tensor([125.0, 0.0, 10.0]))


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(224, 11, 4), (96, 11, 4), (7, 3, 2), (8, 5, 1)]
)
def test_same_padding_is_tensorflow_s(size: int, kernel: int, stride: int) -> None:
    """By the definition: output ceil(n/s), odd pixel to the right and bottom."""
    conv = SameConv2d(1, 1, kernel, stride=stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    x = np.random.default_rng(0).random((size, size))
    padded = np.pad(x, ((total // 2, total - total // 2),) * 2)
    expected = [
        [padded[i * stride :, j * stride :][:kernel, :kernel].sum() for j in range(out)]
        for i in range(out)
    ]
    found = conv(torch.tensor(x, dtype=torch.float32)[None, None])[0, 0].detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_hed_weights_are_those_of_the_package() -> None:
    require_shipped_weights()
    backbone = load_backbone("vgg16")
    # First kernel of the file, by h5py: vars/0 is height, width, in, out.
    assert backbone.preprocessing == CAFFE_BGR
    assert backbone.provenance.license == "MIT"
    assert backbone.provenance.sha256 is not None
    weight = backbone.module.block1_conv1.weight  # type: ignore[union-attr]
    assert weight.abs().sum() > 100  # type: ignore[operator]


def test_torchvision_checkpoint_is_read_and_its_classifier_left(tmp_path: Path) -> None:
    source = load_backbone("alexnet", weights="random").module
    indices = iter([0, 3, 6, 8, 10])
    tensors = {}
    for conv in convolutions(source).values():
        number = next(indices)
        tensors[f"features.{number}.weight"] = conv.weight.detach().contiguous() + 1
        tensors[f"features.{number}.bias"] = conv.bias.detach() + 1  # type: ignore[union-attr]
    tensors["classifier.6.weight"] = torch.zeros(1000, 8)
    torch.save(tensors, tmp_path / "alexnet.pth")
    found = load_backbone("alexnet", weights=tmp_path / "alexnet.pth")
    conv3 = found.module.conv3.weight  # type: ignore[union-attr]
    torch.testing.assert_close(conv3, source.conv3.weight + 1)  # type: ignore[union-attr, operator]
    assert "alexnet.pth" in found.provenance.source
    save_file(tensors, tmp_path / "alexnet.safetensors")
    load_backbone("alexnet", weights=tmp_path / "alexnet.safetensors")


def test_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(UnsupportedModelError, match=r"x.pth holds 1 tensors .* has 10"):
        load_backbone("alexnet", weights=tmp_path / "x.pth")


class _Bomb:
    def __reduce__(self) -> tuple:
        return print, ("code was run",)


def test_pickle_that_runs_code_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": _Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(DataError, match=r"bomb\.pth wants builtins\.print, which no file"):
        read_tensors(tmp_path / "bomb.pth")
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x04."])
def test_broken_weights_are_one_clear_line(tmp_path: Path, content: bytes) -> None:
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} is not"):
            read_tensors(tmp_path / name)


def test_saved_backbone_is_loaded_bit_equal(tmp_path: Path) -> None:
    backbone = load_backbone("alexnet-bn", weights="random")
    save_backbone(backbone, tmp_path / "mine")
    found = load_backbone(tmp_path / "mine")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(found.module(x), backbone.module(x))
    assert (found.preprocessing, found.provenance) == (
        backbone.preprocessing,
        backbone.provenance,
    )


def test_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no backbone named 'vgg61'\. Did you mean vgg16\?"):
        load_backbone("vgg61")


def test_backbone_without_shipped_weights_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="alexnet ships without weights: train it with"):
        load_backbone("alexnet")


def test_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no weights file .*gone\.pth"):
        load_backbone("alexnet", weights=tmp_path / "gone.pth")
