"""Programs whose nodes are well-formed and mean harm: endless numbers, arguments nobody writes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones.onnx_networks import small
from backbones.programs import changed, export_program, members, node, write
from finicky.backbones import load_backbone
from finicky.backbones.program.convert import convert
from finicky.backbones.program.document import read_document
from finicky.backbones.program.reader import check_parity, read_weights
from finicky.backbones.wiring import Draft
from finicky.errors import DataError, UnsupportedModelError

Graph = Any


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_program(small(), tmp_path_factory.mktemp("program") / "plain.pt2")


def _call(target: str, *values: dict[str, Any], output: str = "extra") -> Graph:
    inputs = [{"name": f"a{i}", "arg": value, "kind": 1} for i, value in enumerate(values)]
    return {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": output}}]}


def _before(*calls: Graph) -> Any:
    return lambda g: g["graph_module"]["graph"]["nodes"].__setitem__(slice(0, 0), calls)


def _integer(value: int) -> dict[str, Any]:
    return {"as_int": value}


def _value(name: str) -> dict[str, Any]:
    return {"as_sym_int": {"as_name": name}}


def _doubled(operator: str, first: Graph, count: int) -> Any:
    return _before(
        _call(operator, first, first, output="v0"),
        *(
            _call(operator, _value(f"v{i}"), _value(f"v{i}"), output=f"v{i + 1}")
            for i in range(count)
        ),
    )


def _photo(g: Graph) -> dict[str, Any]:
    specs = g["graph_module"]["signature"]["input_specs"]
    return next(s["user_input"]["arg"] for s in specs if "user_input" in s)


def _ones(count: int) -> Any:
    one = _call("torch.ops.aten.ones.default", {"as_ints": [1 << 26]})
    one["inputs"].append({"name": "dtype", "arg": {"as_scalar_type": 12}, "kind": 2})  # bool
    return _before(*[one] * count)


def _same_weight_again(g: Graph) -> None:
    linear = node(g, "linear")
    g["graph_module"]["graph"]["nodes"] += [linear] * 40


def _drop_argument(operator: str, place: int) -> Any:
    return lambda g: node(g, operator)["inputs"].pop(place)


CASES: dict[str, tuple[Any, str]] = {
    "a number that doubles its digits": (
        _doubled("_operator.mul", _integer(9), 46), r"_operator\.mul makes a number that no size",
    ),
    "a list that doubles": (
        _doubled("_operator.add", {"as_ints": [1] * 9}, 40), r"_operator\.add is given what is no",
    ),
    "divided by nothing": (
        _before(_call("_operator.floordiv", _integer(1), _integer(0))), "floordiv does not run",
    ),
    "a photo as a number": (
        lambda g: _before(_call("_operator.add", _photo(g), _integer(0)))(g), "is given what is no",
    ),
    "no number at all": (_before(_call("_operator.neg")), "neg does not run"),
    "many harmless tensors": (_ones(3), r"ones\.default \(extra\) makes more numbers"),
    "view without anything": (
        _before(_call("torch.ops.aten.view.default")), r"view\.default \(extra\) does not run",
    ),
    "view without its shape": (
        lambda g: _before(_call("torch.ops.aten._unsafe_view.default", _photo(g)))(g),
        r"_unsafe_view\.default \(extra\) cannot be read",
    ),
    "a size of no axis": (
        lambda g: _before(
            {
                "target": "torch.ops.aten.sym_size.int",
                "inputs": [
                    {"name": "self", "arg": _photo(g), "kind": 1},
                    {"name": "dim", "arg": _integer(9), "kind": 1},
                ],
                "outputs": [{"as_sym_int": {"as_name": "extra"}}],
            }
        )(g),
        r"sym_size\.int \(extra\) cannot be read",
    ),
    "a convolution without its photo": (_drop_argument("conv2d", 0), r"conv2d\.default \(\w+\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nodes_that_mean_harm_are_refused_by_name(plain: Path, tmp_path: Path, case: str) -> None:
    change, text = CASES[case]
    path = changed(plain, tmp_path / "bad.pt2", change)
    start = time.process_time()
    with pytest.raises(UnsupportedModelError, match=rf"bad\.pt2 cannot be used: .*{text}"):
        load_backbone(path)
    assert time.process_time() - start < 20


class _Wide(nn.Module):
    """Large weights, which a file may call as often as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 256, 1), nn.Linear(256, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x).mean((2, 3)))


def test_one_weight_in_many_layers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer has its own copy, and a file may ask for 50,000."""
    monkeypatch.setattr("finicky.backbones.program.convert._MADE", 1 << 20)
    whole = export_program(_Wide().eval(), tmp_path / "wide.pt2", side=8)
    path = changed(whole, tmp_path / "bad.pt2", _same_weight_again)
    with pytest.raises(UnsupportedModelError, match=r"linear\.default .* makes more numbers"):
        load_backbone(path)


@pytest.mark.parametrize("kind", [AttributeError, ZeroDivisionError, AssertionError])
def test_whatever_running_raises_is_one_line(plain: Path, kind: type[Exception]) -> None:
    document = read_document(plain)
    tensors = read_weights(plain, document)
    found = convert(document, tensors)
    preprocessing = load_backbone(plain).preprocessing

    class Broken(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            raise kind("so\nmany lines")

    found.module.forward = Broken().forward  # type: ignore[method-assign]
    with pytest.raises(UnsupportedModelError, match=r"^it does not run: so$"):
        check_parity(document, tensors, found, preprocessing)
    assert torch.is_grad_enabled()


def _configs(path: Path, change: Any, out: Path) -> Path:
    """The same program after what it says of its weights was changed."""
    content = members(path)
    name = next(n for n in content if n.endswith("weights_config.json"))
    config = json.loads(content[name])
    change(config["config"])
    return write(out, content | {name: json.dumps(config).encode()})


def test_numbers_that_many_weights_share_are_held_once(plain: Path, tmp_path: Path) -> None:
    """A file may name one large member for each of 50,000 weights."""

    def share(config: Any) -> None:
        shapes = {}
        for entry in config.values():
            key = str(entry["tensor_meta"]["sizes"])
            entry["path_name"] = shapes.setdefault(key, entry["path_name"])

    path = _configs(plain, share, tmp_path / "shared.pt2")
    tensors = read_weights(path, read_document(path))
    places = {t.untyped_storage().data_ptr() for t in tensors.values() if t.numel()}
    assert len(places) < len(tensors) - 5


def test_a_weight_that_is_larger_than_its_data_is_refused(plain: Path, tmp_path: Path) -> None:
    def stretch(config: Any) -> None:
        meta = next(iter(config.values()))["tensor_meta"]
        meta["sizes"] = [{"as_int": 1 << 20}, {"as_int": 1 << 19}]
        meta["strides"] = [{"as_int": 0}, {"as_int": 0}]

    path = _configs(plain, stretch, tmp_path / "wide.pt2")
    with pytest.raises(DataError, match=r"wide\.pt2 is damaged: '.*' is larger than its data"):
        load_backbone(path)


def test_one_name_for_all_values_is_no_work_without_end() -> None:
    draft = Draft((1, 3, 8, 8))
    start = time.process_time()
    draft._examples |= {"a": None, **{f"a_{i}": None for i in range(1, 20_000)}}
    for _ in range(20_000):
        draft._examples[draft._fresh("a")] = None
    assert time.process_time() - start < 20
