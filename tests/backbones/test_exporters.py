"""ONNX files in the manner of many exporters: read exactly, and cut; or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from backbones.exporters import CASES, REFUSED, SIDE, each_opset
from finicky.backbones import Backbone
from finicky.backbones.onnx_file import inline_onnx
from finicky.backbones.onnx_graph import reader
from finicky.backbones.onnx_graph.operators import OPERATORS
from finicky.backbones.onnx_look import look
from finicky.errors import FinickyError, UnsupportedModelError
from finicky.pruning import (
    PruningPlan,
    cut_backbone,
    find_groups,
    plan_from_scores,
    restore,
    save_pruned,
)


@pytest.fixture(autouse=True)
def looked_at_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look in this process, whose start would cost most of the time."""
    monkeypatch.setattr(reader, "first_look", lambda _, path: look(path))


def _read(model: onnx.ModelProto, folder: Path) -> Backbone:
    onnx.checker.check_model(model)
    onnx.save(model, folder / "m.onnx")
    return reader.load(folder / "m.onnx")


def _theirs(model: onnx.ModelProto, x: torch.Tensor) -> np.ndarray:
    """ONNX Runtime's answers to photos (N, C, H, W), one by one."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    given = session.get_inputs()[0]
    photos = x.numpy().transpose(0, 2, 3, 1) if given.shape[3] == 3 else x.numpy()
    kind = np.uint8 if given.type == "tensor(uint8)" else np.float32
    answers = [session.run(None, {given.name: photos[i : i + 1].astype(kind)})[0] for i in (0, 1)]
    if isinstance(answers[0], list):  # a dictionary of classes a photo
        answers = [np.array([list(a[0].values())], np.float32) for a in answers]
    return np.concatenate(answers)


def _check(model: onnx.ModelProto, folder: Path) -> None:
    backbone = _read(model, folder)
    x = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, SIDE, SIDE)) * 1.0)
    x = x.float() if backbone.preprocessing.std == (1.0, 1.0, 1.0) else x.float() / 255
    wanted = _theirs(model, x)
    with torch.inference_mode():
        found = backbone.whole(x).numpy()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-4 * np.abs(wanted).max(), "blind to the photo"
    _, smaller = _cut(backbone)
    numbers = [sum(t.numel() for t in b.module.parameters()) for b in (smaller, backbone)]
    assert numbers[0] < 0.7 * numbers[1]
    with torch.inference_mode():
        assert smaller.whole(torch.zeros(2, 3, SIDE, SIDE)).shape == found.shape


def _cut(backbone: Backbone) -> tuple[PruningPlan, Backbone]:
    """Half of the channels; the cut checks itself."""
    groups = find_groups(backbone.module, SIDE)
    scores = {p.name: np.arange(p.channels.max() + 1.0) for g in groups for p in g.producers}
    plan = plan_from_scores(groups, scores, 0.5, backbone=backbone.name, criterion="number")
    return plan, cut_backbone(backbone, plan.decisions, SIDE)


@pytest.mark.parametrize("case", CASES)
def test_exporters_graphs_answer_as_in_onnx_runtime_and_can_be_cut(
    tmp_path: Path, case: str
) -> None:
    _check(CASES[case](), tmp_path)


@pytest.mark.parametrize("case", ["torch_shuffled", "tensorflow_norm_channels_last", "coreml"])
def test_a_cut_graph_is_restored_bit_equal(tmp_path: Path, case: str) -> None:
    """Built again from its plan: splits and shuffles are found anew, the same ones."""
    backbone = _read(CASES[case](), tmp_path)
    plan, smaller = _cut(backbone)
    save_pruned(smaller, plan, tmp_path / "cut", size=SIDE)
    again, x = restore(tmp_path / "cut")[0], torch.rand(2, 3, SIDE, SIDE)
    assert torch.equal(again.whole(x), smaller.whole(x))


@pytest.mark.parametrize("opset", range(9, 22))
def test_every_opset_from_9_to_21(tmp_path: Path, opset: int) -> None:
    _check(each_opset(opset), tmp_path)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    make, reason = REFUSED[case]
    onnx.save(make(), tmp_path / "m.onnx")
    with pytest.raises(FinickyError, match=reason) as refusal:
        reader.load(tmp_path / "m.onnx")
    assert "\n" not in str(refusal.value)
    assert "m.onnx" in str(refusal.value)


@pytest.mark.parametrize("case", ["tensorflow_padded", "paddle"])
def test_weights_beside_the_file_are_put_inside(tmp_path: Path, case: str) -> None:
    model = CASES[case]()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin",
              size_threshold=0, convert_attribute=True)  # fmt: skip
    inline_onnx(tmp_path / "m.onnx", tmp_path / "whole.onnx")
    _check(onnx.load(tmp_path / "whole.onnx"), tmp_path)


@pytest.mark.parametrize("kind", [KeyError, TypeError, ZeroDivisionError, AssertionError])
def test_whatever_an_operator_s_reader_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def broken(_: object) -> None:
        raise kind("so\nmany lines")

    monkeypatch.setitem(OPERATORS, "MaxPool", broken)
    with pytest.raises(UnsupportedModelError, match=r"m\.onnx .*MaxPool \(\w+\) cannot be read$"):
        _read(CASES["torch_view"](), tmp_path)


def test_a_file_that_ends_running_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("so\nmany lines")

    monkeypatch.setattr(reader, "_run", broken)
    with pytest.raises(
        UnsupportedModelError, match=r"ONNX Runtime does not run it: so many lines$"
    ):
        _read(CASES["torch_view"](), tmp_path)
