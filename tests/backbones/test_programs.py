"""``.pt2`` programs in: parity with the network, the way back, hostile and damaged archives."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.hostile_pickles import Call
from backbones.onnx_networks import small
from backbones.programs import changed, export_program, members, node, write
from finicky.backbones import load_backbone
from finicky.backbones.program.convert import convert
from finicky.backbones.program.document import read_document
from finicky.backbones.program.reader import check_parity, read_weights
from finicky.backbones.zoo import fresh
from finicky.errors import DataError, FinickyError, UnsupportedModelError
from finicky.pruning import cut_backbone, find_groups, plan_from_scores, save_pruned

Graph = Any


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_program(small(), tmp_path_factory.mktemp("program") / "plain.pt2")


def _compare(path: Path, network: nn.Module, side: int = 64) -> None:
    backbone = load_backbone(path)
    x = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, wanted = backbone.whole(x), network(x)
    assert float((found - wanted).abs().max() / wanted.abs().max()) <= 1e-5


@pytest.mark.parametrize("kind", ["any batch", "one photo", "core"])
def test_a_small_network_in_every_form(tmp_path: Path, kind: str) -> None:
    network = small()
    path = export_program(network, tmp_path / "n.pt2", kind=kind)
    _compare(path, network)
    backbone = load_backbone(path)
    with torch.inference_mode():
        assert backbone.module(torch.zeros(1, 3, 96, 96)).shape[1:] == (24, 24, 24)
    kinds = [type(m) for m in backbone.module.modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.BatchNorm2d)) == (7, 1)
    assert f"PyTorch program, torch {torch.__version__}" in backbone.provenance.source
    assert "no preprocessing found" in backbone.preprocessing.origin


@pytest.mark.parametrize("arch", ["torchvision:resnet18", "torchvision:mobilenet_v3_small"])
def test_real_networks(tmp_path: Path, arch: str) -> None:
    network = fresh(arch, 5).eval()
    _compare(export_program(network, tmp_path / "n.pt2"), network)


class Awkward(nn.Module):
    """In place, one name for two layers' input, shuffles, padding, weights made in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding="same"), nn.Conv2d(8, 8, 1)
        self.standardised = nn.Parameter(torch.randn(8, 8, 3, 3))
        self.register_buffer("scale", torch.full((1, 8, 1, 1), 0.5), persistent=False)
        self.classes = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.45) / 0.225
        y = self.one(x)
        F.relu_(y)  # its result is not used, what it changed is
        n, c, h, w = y.shape
        z = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        z += self.two(y) * self.scale
        weight = self.standardised.flatten(1)
        weight = (weight - weight.mean(1, keepdim=True)) / weight.std(1, keepdim=True)
        z = F.conv2d(F.pad(z, (1, 1, 1, 1)), weight.view(8, 8, 3, 3))
        z = F.hardtanh(z, 0, 6, inplace=True)
        z = F.dropout(z, 0.5, self.training)
        parts = torch.cat([F.max_pool2d(z, 2, ceil_mode=True), F.avg_pool2d(z, 2)], 1)
        return self.classes(parts.mean((2, 3)))


def test_awkward_code(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Awkward().eval()
    path = export_program(network, tmp_path / "n.pt2", kind="one photo")
    _compare(path, network)
    assert "scales its input of unit range itself" in load_backbone(path).preprocessing.origin


def test_a_cut_program_is_restored_bit_equal_in_another_process(
    plain: Path, tmp_path: Path
) -> None:
    backbone = load_backbone(plain)
    groups = find_groups(backbone.module, 64)
    random = np.random.default_rng(0)
    scores = {p.name: random.random(p.channels.max() + 1) for g in groups for p in g.producers}
    plan = plan_from_scores(groups, scores, 0.5, backbone=backbone.name, criterion="random")
    smaller = cut_backbone(backbone, plan.decisions, 64)
    assert smaller.module(torch.zeros(1, 3, 64, 64)).shape[1] == 12
    save_pruned(smaller, plan, tmp_path / "cut", size=64)
    x = torch.rand(2, 3, 64, 64)
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "import sys, numpy as np, torch; from pathlib import Path; "
        "from finicky.pruning import restore; p = Path(sys.argv[1]); "
        "y = restore(p / 'cut')[0].whole(torch.from_numpy(np.load(p / 'x.npy'))); "
        "np.save(p / 'y.npy', y.numpy())"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert np.array_equal(np.load(tmp_path / "y.npy"), smaller.whole(x).numpy())


def test_a_changed_weight_is_noticed(plain: Path) -> None:
    """The comparison with the program must be able to fail."""
    document = read_document(plain)
    tensors = read_weights(plain, document)
    found = convert(document, tensors)
    preprocessing = load_backbone(plain).preprocessing
    assert check_parity(document, tensors, found, preprocessing) <= 1e-5
    conv = next(m for m in found.module.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        conv.weight[0] *= 1.01
    with pytest.raises(UnsupportedModelError, match="differs from the program by"):
        check_parity(document, tensors, found, preprocessing)


def _retarget(name: str) -> Any:
    return lambda g: node(g, "relu").update(target=name)


CHANGES: dict[str, tuple[Any, str]] = {
    "another library's operator": (_retarget("torch.ops.evil.run.default"), "evil.run"),
    "no operator at all": (_retarget("posix.system"), r"posix\.system"),
    "a dotted way out": (_retarget("torch.ops.aten.__class__.mro"), r"aten\.__class__"),
    "a file operator": (_retarget("torch.ops.aten.from_file.default"), r"from_file"),
    "a control operator": (_retarget("torch.ops.higher_order.cond"), "higher_order"),
    "a graph as argument": (
        lambda g: node(g, "relu")["inputs"][0].update(arg={"as_graph": {}}),
        "as_graph",
    ),
    "an unset value": (
        lambda g: node(g, "relu")["inputs"][0].update(arg={"as_tensor": {"name": "gone"}}),
        "'gone', which is unset",
    ),
    "training": (
        lambda g: node(g, "batch_norm")["inputs"][5].update(arg={"as_bool": True}),
        r"training mode: call network\.eval\(\)",
    ),
    "an enormous kernel": (
        lambda g: node(g, "max_pool2d")["inputs"][1].update(arg={"as_ints": [2**62, 2]}),
        "does not run",
    ),
    "enormous padding": (
        lambda g: node(g, "conv2d")["inputs"][4].update(arg={"as_ints": [2**40, 2**40]}),
        "does not run|too many",
    ),
    "a number too large": (
        lambda g: node(g, "max_pool2d")["inputs"][1].update(arg={"as_ints": [2**99, 2]}),
        "is damaged",
    ),
    "two photos": (
        lambda g: g["graph_module"]["signature"]["input_specs"].append(
            {"user_input": {"arg": {"as_tensor": {"name": "x"}}}}
        ),
        "it has 2 inputs",
    ),
    "an object": (
        lambda g: g["graph_module"]["signature"]["input_specs"].append({"custom_obj": {}}),
        "custom_obj",
    ),
    "another version": (lambda g: g["schema_version"].update(major=99), "of version 99"),
    "no nodes": (lambda g: g["graph_module"].pop("graph"), "is damaged"),
    "a list for a dict": (lambda g: g.update(graph_module=[]), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_changed_graphs_are_refused_by_name(plain: Path, tmp_path: Path, case: str) -> None:
    change, text = CHANGES[case]
    path = changed(plain, tmp_path / "bad.pt2", change)
    with pytest.raises((DataError, UnsupportedModelError), match=rf"bad\.pt2.*({text})"):
        load_backbone(path)


def test_pickles_in_the_archive_are_never_loaded(plain: Path, tmp_path: Path) -> None:
    """The inputs to try a program with are a pickle; so may a weight be. Neither is opened."""
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Call(open, str(canary), "w"), 2)
    content = members(plain)
    good = write(tmp_path / "sample.pt2", content | {"data/sample_inputs/model.pt": bomb})
    assert load_backbone(good).head is not None
    name = "data/weights/model_weights_config.json"
    config = json.loads(content[name])
    config["config"]["stem.weight"]["use_pickle"] = True
    member = "data/weights/" + config["config"]["stem.weight"]["path_name"]
    changes = {name: json.dumps(config).encode(), member: bomb}
    bad = write(tmp_path / "weight.pt2", content | changes)
    with pytest.raises(UnsupportedModelError, match=r"'stem\.weight' is stored as a pickle"):
        load_backbone(bad)
    assert not canary.exists()


def _archives(plain: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    content = members(plain)
    name = "data/weights/model_weights_config.json"
    config = json.loads(content[name])
    config["config"]["stem.weight"]["path_name"] = "../../../etc/passwd"
    away = content | {name: json.dumps(config).encode()}
    config["config"]["stem.weight"]["path_name"] = "weight_99"
    lost = content | {name: json.dumps(config).encode()}
    config = json.loads(content[name])
    config["config"]["stem.weight"]["tensor_meta"]["sizes"][0]["as_int"] = 2**30
    huge = content | {name: json.dumps(config).encode()}
    model = next(n for n in content if n.startswith("models/"))
    with zipfile.ZipFile(folder / "bomb.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p/models/model.json", b"[" * (32 << 20))
    return {
        "path": (write(folder / "away.pt2", away), "is said to lie at"),
        "missing": (write(folder / "lost.pt2", lost), "it lacks 'p/data/weights/weight_99'"),
        "huge": (write(folder / "huge.pt2", huge), "is larger than its data|larger"),
        "deep": (write(folder / "deep.pt2", content | {model: b"[" * 100_000}), "is no JSON"),
        "text": (write(folder / "text.pt2", content | {model: b"\xff"}), "is no JSON"),
        "two": (write(folder / "two.pt2", content | {"models/b.json": b"{}"}), "holds 2 graphs"),
        "none": (write(folder / "none.pt2", {"version": b"3"}), "holds 0 graphs"),
        "code": (write(folder / "code.pt2", {"data/aotinductor/m.so": b"x"}), "compiled code"),
        "old": (
            write(folder / "old.pt2", {"serialized_exported_program.json": b"{}"}),
            "before 2.8",
        ),
        "bomb": (folder / "bomb.pt2", "is compressed"),
    }


def test_hostile_archives_are_refused(plain: Path, tmp_path: Path) -> None:
    for label, (path, text) in _archives(plain, tmp_path).items():
        start = time.perf_counter()
        with pytest.raises((DataError, UnsupportedModelError), match=text):
            load_backbone(path)
        assert time.perf_counter() - start < 10, label


def test_damaged_archives_end_in_one_clear_line(plain: Path, tmp_path: Path) -> None:
    """Mutants are read without the child process here, so that many can be tried."""
    whole = np.frombuffer(plain.read_bytes(), np.uint8)
    content = members(plain)
    model = next(n for n in content if n.startswith("models/"))
    refused = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        path = tmp_path / "mutant.pt2"
        if seed % 3:
            mutant = whole.copy()
            places = random.integers(0, len(mutant), 1 + seed % 9)
            mutant[places] = random.integers(0, 256, len(places), dtype=np.uint8)
            path.write_bytes(mutant.tobytes()[: None if seed % 2 else seed * 999])
        else:
            graph = np.frombuffer(content[model], np.uint8).copy()
            places = random.integers(0, len(graph), 3)
            graph[places] = random.integers(48, 58, 3, dtype=np.uint8)  # digits: often still JSON
            write(path, content | {model: graph.tobytes()})
        try:
            document = read_document(path)
            convert(document, read_weights(path, document))
        except FinickyError:
            refused += 1
    assert refused > 100


def test_half_precision_says_what_to_do(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2)).half().eval()
    x = torch.rand(1, 3, 16, 16).half()
    network(x)
    program = torch.export.export(network, (x,))
    torch.export.save(program, str(tmp_path / "half.pt2"))
    with pytest.raises(UnsupportedModelError, match=r"call network\.float\(\)|of torch\.float16"):
        load_backbone(tmp_path / "half.pt2")
