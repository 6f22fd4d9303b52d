"""A ``.pt2`` archive from a stranger: its graph as plain values, read without torch.

``torch.export.load`` is not used: it unpickles what the archive asks it to. Here only the JSON of
the graph and raw numbers are read; the pickles in an archive (inputs to try it with, objects) are
left where they are, and a network that needs one is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finicky.backbones.archives import Archive
from finicky.errors import DataError, UnsupportedModelError

_LARGEST_GRAPH = 24 << 20
_MOST_NODES = 50_000
_MAJOR = (5, 8)  # versions of the graph's schema that are known
_PLAIN = {
    "as_bool": bool, "as_bools": bool, "as_float": float, "as_floats": float, "as_int": int,
    "as_ints": int, "as_string": str, "as_strings": str,
}  # fmt: skip
# Where and how tensors lie does not matter for what a network computes.
_DROPPED = ("as_device", "as_layout", "as_memory_format")
_FLOATS = {"Infinity": float("inf"), "-Infinity": -float("inf"), "NaN": float("nan")}


@dataclass(frozen=True)
class Named:
    """A value of the graph, by name."""

    name: str


@dataclass(frozen=True)
class ScalarType:
    """A type of numbers, by PyTorch's code for it in these files."""

    code: int


@dataclass(frozen=True)
class Node:
    """One call: ``arguments`` by name, in order, ``outputs``: a name, or a list of names, each."""

    target: str
    positional: tuple[tuple[str, Any], ...]
    keywords: dict[str, Any]
    outputs: tuple[Any, ...]


@dataclass(frozen=True)
class Payload:
    """Where a tensor's numbers lie in the archive, and how they are to be viewed."""

    member: str
    code: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Document:
    """A program's graph.

    Attributes:
        nodes: In the order in which they run.
        weights: The name in the network, such as ``layer1.0.conv1.weight``, of each value that is
            given beforehand.
        payloads: Where these numbers lie, by that name.
        constants: Inputs that are plain values.
        photo: The value that the user gives.
        shape: Its sizes, where a size is open that at which it was exported; ``open_batch``
            whether the first is open.
        code: Its type of numbers.
        output: The first value that it answers with.
        version: Of the torch that wrote it.
    """

    nodes: tuple[Node, ...]
    weights: dict[str, str]
    payloads: dict[str, Payload]
    constants: dict[str, Any]
    photo: str
    shape: tuple[int, ...]
    open_batch: bool
    code: int
    output: str
    version: str


def read_document(path: Path) -> Document:
    """The graph of a ``.pt2`` file.

    Raises:
        DataError: It is damaged or hostile.
        UnsupportedModelError: It is of a version, or holds a kind of value, that is not known.
    """
    with Archive(path) as archive:
        root = archive.root
        graphs = [n for n in archive.members if n.startswith(f"{root}/models/")]
        if len(graphs) != 1 or not graphs[0].endswith(".json"):
            raise UnsupportedModelError(_no_program(path, archive, graphs))
        name = graphs[0].rpartition("/")[2].removesuffix(".json")
        raw = _json(archive, graphs[0])
        configs = [
            (folder, _json(archive, f"{root}/data/{folder}/{name}_{folder}_config.json"))
            for folder in ("weights", "constants")
            if f"{root}/data/{folder}/{name}_{folder}_config.json" in archive.members
        ]
        if not configs:
            raise UnsupportedModelError(
                f"{path} was written by torch {raw.get('torch_version', 'of old')!s:.20}, whose "
                "archives keep weights as a pickle: load it there and save it with torch 2.9 or "
                "later"
            )
        try:
            return _document(raw, configs, root)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{path} cannot be used: {error}") from error
        except DataError as error:
            raise DataError(f"{path} is damaged: {error}") from error
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise DataError(f"{path} is damaged: its graph is not as it should be") from error


def _no_program(path: Path, archive: Archive, graphs: list[str]) -> str:
    names = archive.members
    if any("aotinductor" in name or name.endswith(".so") for name in names):
        return f"{path} holds compiled code, which is not run: save it with torch.export.save"
    if any(name.endswith("serialized_exported_program.json") for name in names):
        return f"{path} is of PyTorch before 2.8: load it there and save it with a newer one"
    if any(name.endswith("data.pkl") for name in names):
        return f"{path} is a pickled checkpoint, no exported program: name it .pth, with --arch"
    return f"{path} is no exported program: it holds {len(graphs)} graphs, one is expected"


def _json(archive: Archive, member: str) -> dict[str, Any]:
    content = archive.read(member, _LARGEST_GRAPH)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{archive.path} is damaged: {member!r:.80} is no JSON") from error
    if not isinstance(value, dict):
        raise DataError(f"{archive.path} is damaged: {member!r:.80} is no graph")
    return value


def _document(raw: Any, configs: list[tuple[str, Any]], root: str) -> Document:
    major = raw["schema_version"]["major"]
    if not _MAJOR[0] <= major <= _MAJOR[1]:
        raise UnsupportedModelError(f"its format is of version {major!r:.20}: update Finicky")
    graph = raw["graph_module"]["graph"]
    signature = raw["graph_module"]["signature"]
    weights, constants, photos = _inputs(signature["input_specs"])
    if len(photos) != 1:
        raise UnsupportedModelError(
            f"it has {len(photos)} inputs; a network that takes one batch of photos is expected"
        )
    meta = graph["tensor_values"][photos[0]]
    sizes = [_size(s) for s in meta["sizes"]]
    if len(graph["nodes"]) > _MOST_NODES:
        raise DataError(f"its graph has {len(graph['nodes']):,} nodes: too many")
    return Document(
        tuple(_node(n) for n in graph["nodes"]),
        weights,
        {str(n): _payload(n, p, f"{root}/data/{f}") for f, c in configs for n, p in _entries(c)},
        constants,
        photos[0],
        tuple(sizes),
        "as_int" not in meta["sizes"][0],
        _whole(meta["dtype"]),
        _answer(signature["output_specs"]),
        str(raw.get("torch_version", ""))[:40],
    )


def _entries(config: Any) -> list[tuple[str, Any]]:
    return list(config["config"].items())


def _inputs(specs: list[Any]) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Names of weights, plain values, and what the user gives."""
    weights: dict[str, str] = {}
    constants: dict[str, Any] = {}
    photos: list[str] = []
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind in ("parameter", "buffer", "tensor_constant"):
            weights[str(value["arg"]["name"])] = str(value[f"{kind}_name"])
        elif kind == "constant_input":
            constants[str(value["name"])] = next(iter(value["value"].values()))
        elif kind == "user_input":
            ((what, given),) = value["arg"].items()
            if what == "as_tensor":
                photos.append(str(given["name"]))
        elif kind != "token":
            raise UnsupportedModelError(
                f"it takes {kind!r:.40}, which only running code could load"
            )
    return weights, constants, photos


def _answer(specs: list[Any]) -> str:
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind == "user_output" and "as_tensor" in value["arg"]:
            return str(value["arg"]["as_tensor"]["name"])
    raise UnsupportedModelError("it answers with no tensor")


def _node(raw: Any) -> Node:
    target = str(raw["target"])
    positional, keywords = [], {}
    for given in raw["inputs"]:
        name, value = str(given["name"]), _value(given["arg"], target)
        if value is _NOTHING:
            continue
        if given.get("kind") == 2:
            keywords[name] = value
        else:
            positional.append((name, value))
    return Node(target, tuple(positional), keywords, tuple(_output(o) for o in raw["outputs"]))


_NOTHING = object()


def _value(raw: Any, target: str) -> Any:
    """An argument; names of other values as `Named`."""
    ((kind, value),) = raw.items()
    if kind in _PLAIN:
        wanted = _PLAIN[kind]
        return [_plain(v, wanted) for v in value] if kind.endswith("s") else _plain(value, wanted)
    if kind == "as_none":
        return None
    if kind in _DROPPED:
        return _NOTHING
    if kind == "as_tensor":
        return Named(str(value["name"]))
    if kind == "as_tensors":
        return [Named(str(v["name"])) for v in value]
    if kind == "as_scalar_type":
        return ScalarType(_whole(value))
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor"):
        return _either(value)
    if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools", "as_optional_tensors"):
        return [_either(v) for v in value]
    raise UnsupportedModelError(f"operator {target:.80} takes a value of kind {kind!r:.40}")


def _plain(value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, str):
        return _FLOATS[value]
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(value)
    return value


def _either(raw: Any) -> Any:
    """A number that is known, or a value's name."""
    ((kind, value),) = raw.items()
    if kind == "as_name":
        return Named(str(value))
    if kind == "as_tensor":
        return Named(str(value["name"]))
    if kind == "as_none":
        return None
    return _plain(value, {"as_int": int, "as_float": float, "as_bool": bool}[kind])


def _output(raw: Any) -> Any:
    """A name, or a list of names."""
    ((kind, value),) = raw.items()
    if kind in ("as_tensors", "as_optional_tensors"):
        return [_name(v) for v in value]
    if kind == "as_none":
        return ""
    return _name(value) if isinstance(value, dict) else ""


def _name(raw: Any) -> str:
    value = raw.get("name", raw.get("as_name", raw.get("as_tensor", "")))
    return _name(value) if isinstance(value, dict) else str(value)


def _size(raw: Any) -> int:
    """A size, or that at which the program was exported where it leaves it open."""
    if "as_int" in raw:
        return _whole(raw["as_int"])
    hint = raw["as_expr"].get("hint") or {}
    return _whole(hint.get("as_int", 0))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise ValueError(value)
    return value


def _payload(name: str, raw: Any, folder: str) -> Payload:
    if raw["use_pickle"]:
        raise UnsupportedModelError(f"{name!r:.80} is stored as a pickle, which is not loaded")
    meta = raw["tensor_meta"]
    member = str(raw["path_name"])
    if "/" in member or "\\" in member:
        raise DataError(f"{name!r:.80} is said to lie at {member!r:.80}")
    return Payload(
        f"{folder}/{member}",
        _whole(meta["dtype"]),
        _size(meta["storage_offset"]),
        tuple(_size(s) for s in meta["sizes"]),
        tuple(_size(s) for s in meta["strides"]),
    )
