"""What is said of a network before it is cut."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.onnx_networks import export, small
from finicky import describe_backbone
from finicky.backbones import load_backbone
from finicky.cli import main
from finicky.errors import DataError, UnsupportedModelError, UsageError
from finicky.pruning import cut_backbone, find_groups, plan_from_scores, save_pruned


def test_alexnet_counted_by_hand() -> None:
    found = describe_backbone("alexnet", tile=224)
    conv = next(layer for layer in found.layers if layer.name == "conv2")
    assert conv.kind == "Conv2d 5x5"
    assert conv.shape == (192, 27, 27)
    assert conv.params == 64 * 192 * 25 + 192
    assert conv.macs == 64 * 192 * 25 * 27 * 27
    assert sum(layer.params for layer in found.layers) == found.features.params == 2_469_696
    assert sum(layer.macs for layer in found.layers) == found.features.macs
    assert [g.channels for g in found.groups] == [64, 192, 384, 256, 256]
    assert (found.classes, found.whole, found.never_cut) == (None, None, {})
    assert "random weights" in found.source


def test_a_classifier_is_told_apart_and_never_cut() -> None:
    found = describe_backbone("torchvision:resnet18", tile=64)
    assert found.classes == 1000
    assert found.never_cut == {"head.fc": "only the inputs of a classifier follow a cut"}
    stem = found.groups[0]
    assert stem.convolutions == ("conv1", "layer1.0.conv2", "layer1.1.conv2")
    assert found.whole is not None
    assert found.whole.params == 11_689_512
    assert sum(layer.params for layer in found.layers) == found.whole.params


def test_onnx_files_and_cut_folders(tmp_path: Path) -> None:
    path = export(small(), tmp_path / "small.onnx", opset=17, dynamo=False)
    whole = describe_backbone(path)
    assert whole.sha256 is not None
    assert "assumed" in whole.preprocessing.origin
    backbone = load_backbone(path)
    groups = find_groups(backbone.module, 64)
    scores = {p.name: np.arange(99.0) for g in groups for p in g.producers}
    plan = plan_from_scores(groups, scores, 0.5, backbone=backbone.name, criterion="random")
    smaller = cut_backbone(backbone, plan.decisions, 64)
    save_pruned(smaller, plan, tmp_path / "cut", size=64)
    less = describe_backbone(tmp_path / "cut")
    assert [g.channels for g in less.groups] == [g.channels // 2 for g in whole.groups]
    assert less.preprocessing.origin == "plan.json"
    assert less.classes == whole.classes == 5


def test_a_network_that_cannot_be_cut_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedModelError("stem is tied to everything")

    monkeypatch.setattr("finicky.pruning.description.find_groups", refuse)
    found = describe_backbone("alexnet", tile=64)
    assert found.refusal == "stem is tied to everything"
    assert found.groups == ()
    assert found.features.params > 0


def test_preprocessing_of_the_user_is_named() -> None:
    found = describe_backbone("alexnet", preprocessing="signed", tile=64)
    assert found.preprocessing.origin == "signed, as --preprocessing says"
    assert found.preprocessing.mean == (127.5, 127.5, 127.5)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no backbone named 'vgg17'\. Did you mean vgg16"):
        describe_backbone("vgg17")
    with pytest.raises(UsageError, match="torchvision has no network 'resnet19'"):
        describe_backbone("torchvision:resnet19")
    with pytest.raises(UsageError, match="at least 63 px, got 8"):
        describe_backbone("alexnet", tile=8)
    with pytest.raises(UsageError, match=r"no file .*gone\.onnx"):
        describe_backbone(tmp_path / "gone.onnx")
    torch.save(load_backbone("alexnet", weights="random").module.state_dict(), tmp_path / "a.pth")
    with pytest.raises(UsageError, match=r"a\.pth holds weights and no architecture"):
        describe_backbone(tmp_path / "a.pth")
    (tmp_path / "bad.onnx").write_bytes(b"\x00" * 100)
    with pytest.raises(DataError, match=r"bad\.onnx is not an ONNX file"):
        describe_backbone(tmp_path / "bad.onnx")


def _run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["finicky", "backbone", "show", *words])
    try:
        main()
    except SystemExit as stop:
        assert stop.code in (None, 0, 2), stop.code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = _run(monkeypatch, capsys, "alexnet", "--tile", "96")
    assert "from: random weights expect nothing; ImageNet's" in out
    assert "can be cut: 5 groups, 1,152 channels" in out
    out, _ = _run(monkeypatch, capsys, "alexnet", "--tile", "96", "--json")
    value = json.loads(out)
    assert value["features"]["channels"] == 1152
    assert value["layers"][0]["name"] == "conv1"
    assert value["groups"][1]["convolutions"] == ["conv2"]
    _, err = _run(monkeypatch, capsys, "vgg17")
    assert err.startswith("error: no backbone named 'vgg17'")
    assert err.count("\n") == 1
