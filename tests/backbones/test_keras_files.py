"""Keras files against what Keras answered; see ``benchmarks/keras_models.py`` for their making."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import fx, nn

from finicky.backbones import Backbone, Blueprint, build, convolutions, load_backbone
from finicky.backbones.backbone import CAFFE_BGR, PREPROCESSINGS
from finicky.backbones.keras.layers import Concatenate
from finicky.backbones.keras.reader import read_whole
from finicky.errors import DataError, UnsupportedModelError
from finicky.importance.chain import links
from finicky.pruning import cut_backbone, find_groups, plan_from_scores, restore, save_pruned

FILES = Path(__file__).parent / "keras_files"
NAMES = sorted(p.name for p in FILES.iterdir() if p.suffix in (".h5", ".keras"))
PUBLISHED = "published_pruned_alexnet_0.15.h5"
# What both of them round: the same sums in another order. Scale-relative.
TOLERANCE = 1e-5


def answers(path: Path) -> tuple[torch.Tensor, np.ndarray]:
    """The network's input and Keras' output, channels first."""
    with np.load(path.with_suffix(".npz")) as stored:
        x = torch.from_numpy(stored["photos"]).permute(0, 3, 1, 2).float()
        outputs = stored["outputs"]
        x = x if stored["raw"] else x / 127.5 - 1
    return x, outputs.transpose(0, 3, 1, 2) if outputs.ndim == 4 else outputs


def relative(found: torch.Tensor, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())


def cut_by_chance(backbone: Backbone, keep: float, size: int):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    layers = convolutions(backbone.module, size)
    scores = {name: rng.random(conv.out_channels) for name, conv in layers.items()}
    groups = find_groups(backbone.module, size)
    plan = plan_from_scores(groups, scores, keep, backbone=backbone.name, criterion="chance")
    return cut_backbone(backbone, plan.decisions, size), plan


def test_both_writers_and_both_formats_are_there() -> None:
    kinds = {tuple(name.split(".")[1:]) for name in NAMES}
    assert kinds == {(w, e) for w in ("keras2", "keras3") for e in ("h5", "keras")}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_answers_as_keras_does(name: str) -> None:
    x, wanted = answers(FILES / name)
    with torch.inference_mode():
        assert relative(read_whole(FILES / name)(x), wanted) < TOLERANCE


@pytest.mark.parametrize("name", ["with_top.keras2.h5", "squeeze.keras2.keras"])
def test_features_and_head_are_the_whole(name: str) -> None:
    x, wanted = answers(FILES / name)
    backbone = load_backbone(FILES / name)
    assert backbone.head is not None
    with torch.inference_mode():
        assert relative(backbone.whole(x), wanted) < TOLERANCE


def test_a_wrong_padding_would_be_seen() -> None:
    """The negative control: symmetric padding, as PyTorch has it, is far off."""
    x, wanted = answers(FILES / "strides.keras3.keras")
    graph = read_whole(FILES / "strides.keras3.keras")
    name, conv = next((n, m) for n, m in convolutions(graph).items() if max(m.stride) == 3)
    plain = nn.Conv2d(3, 3, conv.kernel_size, conv.stride, padding=1)  # type: ignore[arg-type]
    plain.load_state_dict(conv.state_dict())
    setattr(graph, name, plain)
    with torch.inference_mode():
        found = graph(x)
    assert found.shape != wanted.shape or relative(found, wanted) > 0.01


def test_the_published_network_answers_as_keras_does(reference: Path) -> None:
    """Its map on noise of an odd size, as Keras 2 (tf_keras 2.21, TensorFlow 2.21) gives it."""
    backbone = load_backbone(reference / PUBLISHED)
    assert (backbone.head, backbone.preprocessing) == (None, CAFFE_BGR)
    assert "Keras 2.3.0" in backbone.provenance.source
    assert "assumed caffe" in backbone.provenance.source
    x, wanted = answers(FILES / "published.npz")
    with torch.inference_mode():
        assert relative(backbone.module(x), wanted) < TOLERANCE


def test_the_published_network_is_cut_further(reference: Path, tmp_path: Path) -> None:
    backbone = load_backbone(reference / PUBLISHED)
    small, plan = cut_by_chance(backbone, 0.5, 224)
    widths = [conv.out_channels for conv in convolutions(small.module).values()]
    assert widths == [7, 19, 29, 29, 19]
    save_pruned(small, plan, tmp_path, size=224)
    again, _ = restore(tmp_path)
    x = torch.rand(1, 3, 224, 224)
    assert torch.equal(again.module(x), small.module(x))


def test_a_chain_is_a_chain_for_the_2021_method(reference: Path) -> None:
    assert [link.name for link in links(load_backbone(reference / PUBLISHED).module)] == [
        *("conv2d_127", "conv2d_129", "conv2d_131", "conv2d_133", "conv2d_135")
    ]
    assert isinstance(load_backbone(FILES / "residual.keras3.h5").module, fx.GraphModule)


def test_cutting_before_a_flattened_map_cuts_the_right_rows() -> None:
    """By Keras' own order: a dense layer's rows are height, width, channel."""
    path = FILES / "with_top.keras2.h5"
    backbone = load_backbone(path)
    kept = {"block1_conv1": [0, 1, 2, 3], "block2_conv1": [1, 2, 5]}
    small = cut_backbone(backbone, kept, 24)
    x, _ = answers(path)
    with torch.inference_mode():
        maps, found = small.module(x), small.whole(x)
        full = backbone.module(x)
    torch.testing.assert_close(maps, full[:, [1, 2, 5]])
    with h5py.File(path) as file:
        layers = file["model_weights"]
        rows = layers["fc1/fc1/kernel:0"][()].reshape(5, 5, 6, 8)[:, :, [1, 2, 5]]
        hidden = maps.permute(0, 2, 3, 1).reshape(1, -1).numpy() @ rows.reshape(-1, 8)
        hidden = np.maximum(hidden + layers["fc1/fc1/bias:0"][()], 0)
        last = layers["predictions/predictions"]
        wanted = hidden @ last["kernel:0"][()] + last["bias:0"][()]
    assert relative(found, wanted) < TOLERANCE


@pytest.mark.parametrize(
    "name", ["nested.keras3.keras", "residual.keras3.h5", "squeeze.keras2.keras"]
)
def test_a_cut_network_comes_back_bit_equal(name: str, tmp_path: Path) -> None:
    backbone = load_backbone(FILES / name)
    size = backbone.head_size or 32
    small, plan = cut_by_chance(backbone, 0.5, size)
    save_pruned(small, plan, tmp_path, size=size)
    again, _ = restore(tmp_path)
    x = torch.rand(2, 3, size, size)
    assert torch.equal(again.whole(x), small.whole(x))


def gone(node: fx.Node, graph: nn.Module, kept: dict[str, list[int]]) -> tuple[set[int], int]:
    """Channels of a node's result that the plan cuts, and how many it has, followed backwards."""
    layer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(layer, nn.Conv2d):
        stays = kept.get(str(node.target), range(layer.out_channels))
        return set(range(layer.out_channels)) - set(stays), layer.out_channels
    if isinstance(layer, Concatenate):
        found: set[int] = set()
        width = 0
        for part in node.all_input_nodes:
            lost, channels = gone(part, graph, kept)
            found |= {width + i for i in lost}
            width += channels
        return found, width
    return gone(node.all_input_nodes[0], graph, kept) if node.all_input_nodes else (set(), 3)


@pytest.mark.parametrize("name", ["residual.keras3.h5", "concatenated.keras3.h5"])
def test_a_cut_network_is_the_full_one_with_the_rest_silenced(name: str) -> None:
    """Filters that go are set to 0, with their normalisation: the full network says the same."""
    backbone = load_backbone(FILES / name)
    size = backbone.head_size or 32
    small, plan = cut_by_chance(backbone, 0.5, size)
    silent = load_backbone(FILES / name)
    graph = silent.module
    for node in graph.graph.nodes:  # type: ignore[union-attr]
        layer = graph.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
            lost = sorted(gone(node, graph, plan.kept)[0])
            layer.weight.data[lost] = 0
            if layer.bias is not None:
                layer.bias.data[lost] = 0
    x = torch.rand(1, 3, size, size)
    found, wanted = small.module(x), silent.module(x)
    stays = [i for i in range(wanted.shape[1]) if wanted[0, i].abs().sum() > 0]
    assert relative(found, wanted[:, stays].numpy()) < TOLERANCE
    assert relative(found, backbone.module(x)[:, stays].numpy()) > 0.01


def test_a_map_flattened_beside_a_pooled_one_is_followed() -> None:
    backbone = load_backbone(FILES / "mixed.keras3.keras")
    assert backbone.head_size == 10
    small, plan = cut_by_chance(backbone, 0.5, 10)  # checks itself, head and all
    assert len(plan.kept["conv2d"]) == 2
    assert small.whole(torch.rand(1, 3, 10, 10)).shape == (1, 3)


def test_scaling_inside_the_network_stays_there_and_is_said() -> None:
    backbone = load_backbone(FILES / "scaled.keras3.keras")
    assert backbone.preprocessing == PREPROCESSINGS["raw"]
    assert "inside the network: Rescaling rescaling" in backbone.provenance.source
    given = load_backbone(FILES / "scaled.keras3.keras", preprocessing="unit")
    assert given.preprocessing == PREPROCESSINGS["unit"]


def test_a_blueprint_is_small_json_and_builds_the_same_layers() -> None:
    backbone = load_backbone(FILES / "with_top.keras2.h5")
    assert backbone.blueprint is not None and backbone.blueprint.blob == b""
    spec = json.loads(json.dumps(backbone.blueprint.spec))
    features, head = build(Blueprint("keras", spec))
    assert features.state_dict().keys() == backbone.module.state_dict().keys()
    assert head is not None and backbone.head is not None
    head.load_state_dict(backbone.head.state_dict())
    spec["layers"][1][1] = "lambda"
    with pytest.raises(DataError, match="of unknown kind 'lambda'"):
        build(Blueprint("keras", spec))


def test_smallest_size_is_found_by_trying(reference: Path) -> None:
    backbone = load_backbone(reference / PUBLISHED)
    assert backbone.min_size == 41  # as the built-in alexnet-bn
    assert min(backbone.module(torch.zeros(1, 3, 41, 41)).shape) == 1


def test_weights_that_do_not_fit_the_config_name_the_layer(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes((FILES / "with_top.keras2.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["model_weights/fc1/fc1"]
        del group["kernel:0"]
        group["kernel:0"] = np.zeros((7, 8), "f4")
    with pytest.raises(DataError, match=r"x\.h5: layer fc1 \(Dense\): its kernel has shape \(7, 8"):
        load_backbone(path)


def test_weights_with_nan_name_the_layer(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes((FILES / "with_top.keras2.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file["model_weights/fc1/fc1/bias:0"][0] = np.nan
    with pytest.raises(DataError, match=r"layer fc1: .* holds NaN"):
        load_backbone(path)


def test_weights_alone_ask_for_an_architecture(tmp_path: Path) -> None:
    path = tmp_path / "mine.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 8), "f4")
    with pytest.raises(UnsupportedModelError, match=r"holds weights and no architecture: .*--arch"):
        load_backbone(path)
