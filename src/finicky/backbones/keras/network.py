"""A Keras config, sequential or functional, nested or not, as one flat list of calls."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from finicky.backbones.keras.identities import IDENTITIES
from finicky.backbones.keras.trust import check_settings
from finicky.errors import DataError, UnsupportedModelError, nearest_names

MAX_CALLS = 5_000
MAX_DEPTH = 16
SEQUENTIAL, FUNCTIONAL = {"Sequential"}, {"Functional", "Model"}
# Layers whose module or registered name Keras itself does not leave empty.
_OWN = re.compile(r"(?:keras|tf_keras|tensorflow\.keras|tensorflow\.python\.keras)(?:\.\w+)*")


@dataclass(frozen=True)
class Call:
    """One layer at work.

    Attributes:
        path: The layer's name, after those of the networks that it is nested in.
        kind: Its Keras class.
        config: Its settings, checked for references, otherwise as they came.
        inputs: Numbers of the calls whose results it takes, or plain numbers (``float``).
    """

    path: tuple[str, ...]
    kind: str
    config: dict[str, Any]
    inputs: tuple[int | float, ...]

    @property
    def name(self) -> str:
        """The path as people write it."""
        return "/".join(self.path)


@dataclass
class Network:
    """All calls in an order in which they can run; the first is the input.

    ``known`` are the classes of layers that may appear.
    ``members`` names, for every nested network (``()`` for the outermost), its layers in the order
    of its config: ``(name, class)``.
    """

    file: str
    known: frozenset[str]
    calls: list[Call] = field(default_factory=list)
    output: int = 0
    members: dict[tuple[str, ...], list[tuple[str, str]]] = field(default_factory=dict)


def flatten(model: dict[str, Any], file: str, known: Iterable[str]) -> Network:
    """The flat list of a network's calls.

    Raises:
        UnsupportedModelError: Something in it is no plain feed-forward network; named.
        DataError: The config is damaged.
    """
    network = Network(file, frozenset(known) | {"InputLayer"})
    try:
        outputs = _expand(network, model, (), None)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        if isinstance(error, (DataError, UnsupportedModelError)):
            raise
        raise DataError(
            f"{file}: its config is damaged: {type(error).__name__} {str(error)[:100]}"
        ) from error
    if len(outputs) != 1:
        raise UnsupportedModelError(
            f"{file} has {len(outputs)} outputs; a network with one is expected"
        )
    network.output = outputs[0]
    return network


def _expand(
    network: Network, model: dict[str, Any], path: tuple[str, ...], given: list[int] | None
) -> list[int]:
    """Append a network's calls; returns the numbers of its outputs."""
    kind = model["class_name"]
    if len(path) > MAX_DEPTH:
        raise UnsupportedModelError(f"{network.file} nests networks more than {MAX_DEPTH} deep")
    if kind not in SEQUENTIAL | FUNCTIONAL:
        raise UnsupportedModelError(
            f"{network.file} is a network of class {kind[:80]!r}; only Sequential and Functional "
            "ones describe their layers. Save it again as one of these"
        )
    _check_origin(network.file, "/".join(path) or "the network", model)
    if path in network.members:
        raise UnsupportedModelError(
            f"{network.file}: {'/'.join(path)} is used twice; shared layers are not supported"
        )
    if kind in SEQUENTIAL:
        return _expand_chain(network, model["config"], path, given)
    return _expand_graph(network, model["config"], path, given)


def _expand_chain(
    network: Network, config: Any, path: tuple[str, ...], given: list[int] | None
) -> list[int]:
    layers = config if isinstance(config, list) else config["layers"]
    _note_members(network, path, layers)
    if not layers:
        raise UnsupportedModelError(f"{network.file}: {'/'.join(path) or 'it'} has no layers")
    if given is None and layers[0]["class_name"] != "InputLayer":
        built = None if isinstance(config, list) else config.get("build_input_shape")
        shape = _first_shape(layers[0]) or built
        given = [_append(network, ("input",), "InputLayer", {"batch_shape": shape}, ())]
    current = given
    for layer in layers:
        if layer["class_name"] == "InputLayer" and current is not None:
            continue  # a nested network's input is what it is called with
        current = _call(network, layer, path, tuple(current or ()))
    assert current is not None
    return current


def _first_shape(layer: dict[str, Any]) -> Any:
    """The input shape of a chain without an input layer, wherever Keras 2 put it."""
    config = layer["config"]
    if layer["class_name"] in SEQUENTIAL | FUNCTIONAL:
        inner = config if isinstance(config, list) else config["layers"]
        return _first_shape(inner[0]) if inner else None
    return config.get("batch_input_shape") or config.get("batch_shape")


def _expand_graph(
    network: Network, config: dict[str, Any], path: tuple[str, ...], given: list[int] | None
) -> list[int]:
    layers = config["layers"]
    _note_members(network, path, layers)
    results: dict[tuple[str, int], list[int]] = {}
    inputs = _endpoints(config["input_layers"])
    if given is not None and len(given) != len(inputs):
        raise UnsupportedModelError(
            f"{network.file}: {'/'.join(path)} is called with {len(given)} inputs, "
            f"it has {len(inputs)}"
        )
    if given is None and len(inputs) != 1:
        raise UnsupportedModelError(f"{network.file} has {len(inputs)} inputs; one is expected")
    places = {name: number for number, (name, _, _) in enumerate(inputs)}
    # Keras 2 counts a nested network's own making as its first use.
    nested = {layer["name"] for layer in layers if layer["class_name"] in SEQUENTIAL | FUNCTIONAL}

    def at(end: tuple[str, int, int]) -> tuple[str, int, int]:
        return (end[0], 0, end[2]) if end[0] in nested else end

    waiting = []
    for layer in layers:
        name = layer["name"]
        if layer["class_name"] == "InputLayer":
            if name not in places:
                raise UnsupportedModelError(f"{network.file}: input {name} is not used")
            inner = None if given is None else [given[places[name]]]
            results[name, 0] = inner or _call(network, layer, path, ())
        else:
            nodes = layer["inbound_nodes"]
            if len(nodes) > 1 and not _may_repeat(layer):
                raise UnsupportedModelError(
                    f"{network.file}: layer {'/'.join((*path, name))} is used {len(nodes)} times; "
                    "shared layers are not supported"
                )
            for number, node in enumerate(nodes):
                arguments = [at(a) if isinstance(a, tuple) else a for a in _arguments(node, layer)]
                waiting.append((layer, number, arguments))
    _run_all(network, path, waiting, results)
    ends = [at(end) for end in _endpoints(config["output_layers"])]
    return [results[name, node][tensor] for name, node, tensor in ends]


def _run_all(
    network: Network,
    path: tuple[str, ...],
    waiting: list[tuple[dict[str, Any], int, list[Any]]],
    results: dict[tuple[str, int], list[int]],
) -> None:
    """Append calls as their inputs become known; a layer that never can is a loop."""
    while waiting:
        later = []
        for layer, number, arguments in waiting:
            ready = all(not isinstance(a, tuple) or a[:2] in results for a in arguments)
            if not ready:
                later.append((layer, number, arguments))
                continue
            inputs = tuple(
                results[a[0], a[1]][a[2]] if isinstance(a, tuple) else float(a) for a in arguments
            )
            results[layer["name"], number] = _call(network, layer, path, inputs)
        if len(later) == len(waiting):
            raise DataError(
                f"{network.file}: layer {later[0][0]['name']} waits for a layer that is missing "
                "or waits for it"
            )
        waiting = later


def _call(
    network: Network, layer: dict[str, Any], path: tuple[str, ...], inputs: tuple[int | float, ...]
) -> list[int]:
    kind, config = layer["class_name"], layer["config"]
    if not isinstance(kind, str):
        raise DataError(f"{network.file}: a layer's class_name is no text")
    name = _name_of(layer)
    if kind in SEQUENTIAL | FUNCTIONAL:
        if not all(isinstance(i, int) for i in inputs):
            raise UnsupportedModelError(f"{network.file}: network {name} is called with a number")
        return _expand(network, layer, (*path, name), [int(i) for i in inputs])
    if kind not in network.known:
        raise UnsupportedModelError(
            f"{network.file}: layer {'/'.join((*path, name))} is refused: class {kind[:80]!r} is "
            f"not in Finicky's list. {nearest_names(kind, network.known)} Finicky runs no code "
            "from files: build the network from these and save it again"
        )
    if not isinstance(config, dict):
        raise DataError(f"{network.file}: the config of layer {name} is damaged: no settings")
    _check_origin(network.file, "/".join((*path, name)), layer)
    check_settings("/".join((*path, name)), config, network.file)
    return [_append(network, (*path, name), kind, config, inputs)]


def _append(
    network: Network,
    path: tuple[str, ...],
    kind: str,
    config: dict[str, Any],
    inputs: tuple[int | float, ...],
) -> int:
    if len(network.calls) >= MAX_CALLS:
        raise UnsupportedModelError(f"{network.file} has more than {MAX_CALLS:,} layers")
    network.calls.append(Call(path, kind, config, inputs))
    return len(network.calls) - 1


def _name_of(layer: dict[str, Any]) -> str:
    config = layer["config"]
    name = layer.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return str(name or layer["class_name"])[:200]


def _note_members(network: Network, path: tuple[str, ...], layers: list[dict[str, Any]]) -> None:
    if len(layers) > MAX_CALLS:
        raise UnsupportedModelError(f"{network.file} has more than {MAX_CALLS:,} layers")
    members = [(_name_of(layer), str(layer["class_name"])) for layer in layers]
    names = [name for name, _ in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{network.file}: two layers are named {twice}: it is damaged")
    network.members[path] = members


def _check_origin(file: str, name: str, layer: dict[str, Any]) -> None:
    """A class that somebody registered under a name of Keras' is not that class."""
    module, registered = layer.get("module"), layer.get("registered_name")
    kind = layer["class_name"]
    own = module is None or _OWN.fullmatch(str(module)) is not None
    plain = registered in (None, kind) or str(registered).lower().endswith(f"keras>{kind}".lower())
    if own and registered is not None and "applications>" in str(registered):
        plain = True
    if not own or not plain:
        raise UnsupportedModelError(
            f"{file}: layer {name} is refused: class {kind[:80]!r} of module {module!s:.80} "
            f"(registered as {registered!s:.80}) is not Keras' own, and Finicky runs no code from "
            "files. Build the network from Keras' own layers and save it again"
        )


def _may_repeat(layer: dict[str, Any]) -> bool:
    """Layers without weights may be used again; each use is as good as a layer of its own."""
    weightless = ("Activation", "Pool", "ReLU", "Softmax", "Dropout", "Padding", "Flatten", "Op")
    kind = layer["class_name"]
    return any(word in kind for word in weightless) and kind != "PReLU"


def _endpoints(value: Any) -> list[tuple[str, int, int]]:
    """``input_layers`` and ``output_layers``: one, a list of some, or a dictionary of some."""
    if isinstance(value, dict):
        value = list(value.values())
    if value and isinstance(value[0], str):
        value = [value]
    return [(str(name), int(node), int(tensor)) for name, node, tensor, *_ in value]


def _arguments(node: Any, layer: dict[str, Any]) -> list[Any]:
    """What a layer is called with: ``(name, node, tensor)`` or a number each."""
    if isinstance(node, dict):  # Keras 3
        _check_keywords(node.get("kwargs") or {}, layer)
        found: list[Any] = []
        for argument in node["args"]:
            found += [_keras_3(a) for a in (argument if isinstance(argument, list) else [argument])]
        return found
    if node and isinstance(node[0], str):  # Keras 2 with one input
        node = [node]
    found = []
    for entry in node:
        name, number, tensor = entry[:3]
        found.append(
            float(tensor) if name == "_CONSTANT_VALUE" else (name, int(number), int(tensor))
        )
        keywords = dict(entry[3]) if len(entry) > 3 and entry[3] else {}
        if "y" in keywords:  # the second operand of TensorFlow's arithmetic
            other = keywords.pop("y")
            constant = isinstance(other, (int, float))
            found.append(float(other) if constant else (other[0], int(other[1]), int(other[2])))
        _check_keywords(keywords, layer)
    return found


def _keras_3(argument: Any) -> Any:
    if isinstance(argument, (int, float)) and not isinstance(argument, bool):
        return float(argument)
    if isinstance(argument, dict) and argument.get("class_name") == "__keras_tensor__":
        name, number, tensor = argument["config"]["keras_history"]
        return str(name), int(number), int(tensor)
    raise UnsupportedModelError(
        f"a layer is called with {str(argument)[:80]}, expected the results of other layers"
    )


def _check_keywords(keywords: dict[str, Any], layer: dict[str, Any]) -> None:
    for key, value in keywords.items():
        empty = value in (None, False) or (isinstance(value, list) and not any(value))
        # Keras 3 writes training=True for augmentation; inference overrules it.
        idle = key == "training" and layer["class_name"] in IDENTITIES
        if not (key in ("training", "mask", "name") and (empty or idle)):
            raise UnsupportedModelError(
                f"layer {layer['name']} is called with {key[:60]}={str(value)[:60]}, which is not "
                "supported"
            )
