"""ONNX files in: every opset, both exporters, hostile and damaged files, and the way back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from backbones.onnx_networks import export, small
from finicky.backbones import load_backbone
from finicky.backbones.onnx_file import inline_onnx, read_onnx
from finicky.backbones.onnx_graph.convert import convert
from finicky.backbones.onnx_graph.reader import check_parity, load
from finicky.backbones.onnx_graph.shapes import reshape_plan
from finicky.backbones.wiring import Wiring, assemble
from finicky.errors import DataError, UnsupportedModelError, UsageError
from finicky.pruning import cut, cut_backbone, find_groups, plan_from_scores, restore, save_pruned

OLD = [(opset, False) for opset in (9, 11, 13, 17, 20)]
NEW = [(opset, True) for opset in (18, 21)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "plain.onnx"
    return export(small(), path, opset=17, dynamo=False)


@pytest.mark.parametrize(("opset", "dynamo"), OLD + NEW)
@pytest.mark.parametrize("fixed", [False, True])
def test_every_opset_gives_the_same_network(
    tmp_path: Path, opset: int, dynamo: bool, fixed: bool
) -> None:
    network = small()
    path = export(network, tmp_path / "n.onnx", opset=opset, dynamo=dynamo, fixed=fixed)
    backbone = load_backbone(path)
    x = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.whole(x), network(x), rtol=1e-5, atol=1e-6)
        assert backbone.module(torch.zeros(1, 3, 96, 96)).shape[1:] == (24, 24, 24)
    assert backbone.provenance.sha256 is not None
    assert "no preprocessing found, ImageNet's assumed" in backbone.provenance.source
    kinds = [type(m) for m in backbone.module.modules()]
    assert kinds.count(nn.Conv2d) == 7


def test_cut_network_is_restored_bit_equal_in_another_process(plain: Path, tmp_path: Path) -> None:
    backbone = load_backbone(plain)
    groups = find_groups(backbone.module, 64)
    random = np.random.default_rng(0)
    scores = {p.name: random.random(p.channels.max() + 1) for g in groups for p in g.producers}
    plan = plan_from_scores(groups, scores, 0.5, backbone=backbone.name, criterion="random")
    smaller = cut(backbone.module, plan.decisions, 64)
    assert smaller(torch.zeros(1, 3, 64, 64)).shape[1] == 12
    save_pruned(backbone.with_module(smaller), plan, tmp_path / "cut", size=64)
    x = torch.rand(2, 3, 64, 64)
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "import sys, numpy as np, torch; from pathlib import Path; "
        "from finicky.pruning import restore; p = Path(sys.argv[1]); "
        "y = restore(p / 'cut')[0].module(torch.from_numpy(np.load(p / 'x.npy'))); "
        "np.save(p / 'y.npy', y.numpy())"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert np.array_equal(np.load(tmp_path / "y.npy"), smaller(x).numpy())
    assert restore(tmp_path / "cut")[1] == plan


def test_a_changed_weight_is_noticed(plain: Path) -> None:
    """The comparison with the file must be able to fail."""
    found = convert(read_onnx(plain))
    preprocessing = load_backbone(plain).preprocessing
    assert check_parity(found, preprocessing) <= 1e-5
    conv = next(m for m in found.compared.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        conv.weight[0] *= 1.01
    with pytest.raises(UnsupportedModelError, match="differs from the file by"):
        check_parity(found, preprocessing)


def _model(
    nodes: list, inits: list, shape: list, opset: int = 17, kind: int = 1
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        inits,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _weights(random: np.random.Generator, *shape: int, name: str) -> TensorProto:
    return numpy_helper.from_array(random.normal(0, 0.3, shape).astype(np.float32), name)


def _tensorflow_like(tmp_path: Path, *, byte_input: bool = False) -> Path:
    """What tf2onnx writes: channels last in, SAME padding, MatMul and Add for a dense layer."""
    random = np.random.default_rng(1)
    scale = numpy_helper.from_array(np.array(127.5, np.float32), "scale")
    one = numpy_helper.from_array(np.array(1, np.float32), "one")
    nodes = [
        *([helper.make_node("Cast", ["x"], ["f"], to=1)] if byte_input else []),
        helper.make_node("Div", ["f" if byte_input else "x", "scale"], ["a"]),
        helper.make_node("Sub", ["a", "one"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["c", "k"], ["d"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Add", ["d", "shift"], ["e"]),
        helper.make_node("Relu", ["e"], ["g"]),
        helper.make_node(
            "AveragePool", ["g"], ["h"], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"
        ),
        helper.make_node("Conv", ["h", "k2"], ["i"], pads=[0, 0, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["i", "p", "q", "q", "r"], ["i2"], epsilon=1e-3),
        helper.make_node("ReduceMean", ["i2"], ["j"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["j", "w"], ["m"]),
        helper.make_node("Add", ["m", "v"], ["y"]),
    ]
    inits = [
        scale,
        one,
        _weights(random, 8, 3, 3, 3, name="k"),
        _weights(random, 1, 8, 1, 1, name="shift"),
        _weights(random, 12, 8, 3, 3, name="k2"),
        _weights(random, 12, name="p"),
        _weights(random, 12, name="q"),
        numpy_helper.from_array(random.uniform(0.5, 2, 12).astype(np.float32), "r"),
        _weights(random, 12, 7, name="w"),
        _weights(random, 7, name="v"),
    ]
    kind = TensorProto.UINT8 if byte_input else TensorProto.FLOAT
    path = tmp_path / "tf.onnx"
    onnx.save(_model(nodes, inits, ["n", 50, 50, 3], kind=kind), path)
    return path


@pytest.mark.parametrize("byte_input", [False, True])
def test_tensorflow_s_habits_are_read(tmp_path: Path, byte_input: bool) -> None:
    """Loading compares with ONNX Runtime; here: range, channels, a linear layer, a cut."""
    backbone = load_backbone(_tensorflow_like(tmp_path, byte_input=byte_input))
    assert backbone.preprocessing.std == (1.0, 1.0, 1.0)  # it divides by 127.5 itself
    assert backbone.head is not None
    assert any(isinstance(m, nn.Linear) for m in backbone.head.modules())
    groups = find_groups(backbone.module, 50)
    scores = {p.name: np.arange(p.channels.max() + 1.0) for g in groups for p in g.producers}
    plan = plan_from_scores(groups, scores, 0.5, backbone="tf", criterion="number")
    assert cut(backbone.module, plan.decisions, 50)(torch.zeros(1, 3, 50, 50)).shape[1] == 6


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Einsum", ["x"], ["y"], equation="nchw->nwhc", name="twist")]
    onnx.save(_model(nodes, [], [1, 3, 32, 32]), tmp_path / "e.onnx")
    with pytest.raises(UnsupportedModelError, match=r"Einsum \(twist\) is not known"):
        load(tmp_path / "e.onnx")


@pytest.mark.parametrize(
    ("before", "after", "plan"),
    [
        ((2, 8, 7, 7), [2, 392], ["0", -1]),
        ((1, 8, 1, 1), [1, 8], ["0", "1"]),
        ((2, 8), [2, 8, 1, 1], ["0", "1", 1, 1]),
        ((2, 8, 5, 5), [2, 2, 4, 5, 5], ["0", 2, 4, "2", "3"]),
    ],
)
def test_reshape_keeps_batch_and_photo_size_open(before: tuple, after: list, plan: list) -> None:
    assert reshape_plan(before, after) == plan


def test_a_wiring_names_only_what_is_known() -> None:
    content = (
        b'{"version":1,"constants":{},"output":"a","steps":[{"name":"a","call":"aten.set_.default",'
        b'"args":[{"step":"photo"}],"options":{}}]}'
    )
    with pytest.raises(UnsupportedModelError, match=r"aten\.set_\.default is no operator"):
        assemble(Wiring.from_bytes(content))
    with pytest.raises(DataError, match="damaged"):
        Wiring.from_bytes(b"{}")


PLACES = ("initializer", "Constant.value", "Constant.sparse_value", "sparse_initializer")
BAD = (
    "parent", "detour", "absolute", "symlink", "symlinked folder", "hard link", "negative length",
    "huge length", "offset past end",
)  # fmt: skip


def _entries(case: str, folder: Path, outside: Path) -> dict[str, str]:
    """The external-data entries of a case, for two float32 numbers."""
    (folder / "w.bin").write_bytes(b"\0" * 8)
    (folder / "sub").mkdir()
    ok = {"location": "w.bin", "offset": "0", "length": "8"}
    if case == "symlink":
        (folder / "link.bin").symlink_to(outside)
    if case == "symlinked folder":
        (folder / "way").symlink_to(outside.parent)
    if case == "hard link":
        os.link(outside, folder / "hard.bin")
    return (
        ok
        | {
            "ok": {},
            "parent": {"location": f"../{outside.name}"},
            "detour": {"location": f"sub/../../{outside.name}"},
            "absolute": {"location": str(outside)},
            "symlink": {"location": "link.bin"},
            "symlinked folder": {"location": f"way/{outside.name}"},
            "hard link": {"location": "hard.bin"},
            "negative length": {"length": "-8"},
            "huge length": {"length": str(2**62)},
            "offset past end": {"offset": "4"},
        }[case]
    )


def _hiding(place: str, entries: dict[str, str]) -> onnx.ModelProto:
    tensor = TensorProto(name="t", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    sparse = onnx.SparseTensorProto(
        values=tensor, indices=numpy_helper.from_array(np.array([0, 1], np.int64)), dims=[4]
    )
    conv = helper.make_node("Conv", ["x", "k"], ["y"])
    model = _model([conv], [_weights(np.random.default_rng(0), 2, 3, 3, 3, name="k")], [1, 3, 8, 8])
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "sparse_initializer":
        model.graph.sparse_initializer.append(sparse)
    else:
        name = place.split(".")[1]
        node = helper.make_node("Constant", [], ["t"])
        attribute = node.attribute.add(name=name)
        if name == "value":
            attribute.type = onnx.AttributeProto.TENSOR
            attribute.t.CopyFrom(tensor)
        else:
            attribute.type = onnx.AttributeProto.SPARSE_TENSOR
            attribute.sparse_tensor.CopyFrom(sparse)
        model.graph.node.insert(0, node)
    return model


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", ["ok", *BAD])
def test_data_elsewhere_is_read_from_plain_neighbours_only(
    tmp_path: Path, place: str, case: str
) -> None:
    folder, outside = tmp_path / "model", tmp_path / "secret.bin"
    folder.mkdir()
    outside.write_bytes(b"\1" * 8)
    path = folder / "m.onnx"
    path.write_bytes(_hiding(place, _entries(case, folder, outside)).SerializeToString())
    with pytest.raises(DataError, match=r"tensor 't' lies in another file"):
        read_onnx(path)
    if case == "ok":
        model = read_onnx(path, external_data=True)
        assert b"w.bin" not in model.SerializeToString()
    else:
        with pytest.raises(DataError, match="tensor 't' wants to be read from"):
            read_onnx(path, external_data=True)


def test_tensors_in_functions_training_and_branches_are_seen_too(tmp_path: Path) -> None:
    base = _hiding("Constant.value", {"location": "/etc/hostname"})
    constant = base.graph.node[0]
    for where in ("function", "training", "branch"):
        model = _hiding("initializer", {"location": "w.bin"})
        del model.graph.initializer[-1:]
        if where == "function":
            model.functions.add(name="f", domain="d").node.append(constant)
        elif where == "training":
            model.training_info.add().initialization.node.append(constant)
        else:
            branch = onnx.GraphProto(name="b", node=[constant])
            model.graph.node.append(
                helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)
            )
        path = tmp_path / f"{where}.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(DataError, match="lies in another file, '/etc/hostname'"):
            load(path)


def test_mutated_files_end_in_a_result_or_a_typed_refusal(plain: Path, tmp_path: Path) -> None:
    """200 seeded mutants through the whole look in one child: no crash, nothing untyped."""
    code = """
import sys
from pathlib import Path
import numpy as np
from finicky.backbones.onnx_look import look
from finicky.errors import FinickyError
content = Path(sys.argv[1]).read_bytes()
random = np.random.default_rng(7)
ends = {}
for number in range(200):
    mutant = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        place = int(random.integers(len(mutant) if number % 2 else min(2000, len(mutant))))
        mutant[place] = int(random.integers(256))
    if number % 5 == 0:
        mutant = mutant[: int(random.integers(len(mutant)))]
    path = Path(sys.argv[2], "m.onnx")
    path.write_bytes(mutant)
    try:
        look(path)
        end = "loaded"
    except FinickyError as error:
        end = "refused"
    ends[end] = ends.get(end, 0) + 1
print(ends.get("loaded", 0), ends.get("refused", 0))
"""
    command = [sys.executable, "-c", code, str(plain), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    loaded, refused = map(int, done.stdout.split()[-2:])
    assert loaded + refused == 200
    assert refused > 50


def test_weights_beside_the_model_are_put_inside_when_asked(tmp_path: Path) -> None:
    network = small()
    x = torch.rand(1, 3, 64, 64)
    model = onnx.load(export(network, tmp_path / "m.onnx", opset=18, dynamo=True))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data",
              size_threshold=0)  # fmt: skip
    with pytest.raises(DataError, match=r"'m\.onnx\.data': finicky backbone inline m\.onnx --out"):
        load_backbone(tmp_path / "m.onnx")
    assert inline_onnx(tmp_path / "m.onnx", tmp_path / "whole.onnx") > 10
    with torch.inference_mode():
        found = load_backbone(tmp_path / "whole.onnx").whole(x)
        torch.testing.assert_close(found, network(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match=r"whole\.onnx exists: choose another --out, or --force"):
        inline_onnx(tmp_path / "m.onnx", tmp_path / "whole.onnx")
    (tmp_path / "m.onnx.data").unlink()
    (tmp_path / "m.onnx.data").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="it is a link or no plain file"):
        inline_onnx(tmp_path / "m.onnx", tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_a_map_flattened_with_channels_last_is_cut_with_its_dense_layer(tmp_path: Path) -> None:
    """As TensorFlow flattens: channel by channel within a pixel. An input that nothing takes."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["lit"]),
        helper.make_node("MaxPool", ["lit"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Transpose", ["small"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["last", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "dense"], ["y"]),
    ]
    stored = [
        _weights(random, 8, 3, 3, 3, name="w"),
        _weights(random, 8 * 8 * 8, 5, name="dense"),
        numpy_helper.from_array(np.array([-1, 512], np.int64), "flat"),
    ]
    model = _model(nodes, stored, [1, 32, 32, 3])
    model.graph.input.append(helper.make_tensor_value_info("idle", TensorProto.FLOAT, [1, 1]))
    onnx.save(model, tmp_path / "m.onnx")
    backbone = load_backbone(tmp_path / "m.onnx")
    groups = find_groups(backbone.module, 32)
    scores = {p.name: np.arange(8.0) for g in groups for p in g.producers}
    plan = plan_from_scores(groups, scores, 0.5, backbone="m", criterion="random")
    smaller = cut_backbone(backbone, plan.decisions, 32)
    assert smaller.whole(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    x = torch.rand(1, 3, 32, 32)
    feeds = {"x": x.permute(0, 2, 3, 1).numpy(), "idle": np.zeros((1, 1), np.float32)}
    wanted = torch.from_numpy(session.run(None, feeds)[0])
    torch.testing.assert_close(backbone.whole(x), wanted, rtol=1e-5, atol=1e-6)
