"""A Keras file to a backbone, and a Keras blueprint to fresh modules."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import torch
from torch import fx, nn

from finicky.backbones.backbone import PREPROCESSINGS, Backbone, Preprocessing, Provenance, freeze
from finicky.backbones.blueprint import Blueprint, Built
from finicky.backbones.keras.assembly import assemble
from finicky.backbones.keras.document import Document, open_document
from finicky.backbones.keras.layers import GlobalMax, Reorder
from finicky.backbones.keras.network import flatten
from finicky.backbones.keras.recipe import USUAL_SIZE, Recipe
from finicky.backbones.keras.translate import KNOWN, translate
from finicky.backbones.keras.translation import Translation
from finicky.backbones.keras.weights import place_arrays, tensors
from finicky.backbones.sandbox import first_look
from finicky.backbones.split import split_network
from finicky.errors import UnsupportedModelError
from finicky.files import sha256_file

# What a file without a scaling layer is taken to expect: the 2021 scripts' input, Keras' "caffe".
USUAL = "caffe"


def load(path: Path, *, preprocessing: Preprocessing | None = None) -> Backbone:
    """The backbone in a ``.h5``, ``.keras`` or ``.weights.h5`` file.

    Args:
        path: A file that Keras 2 or 3 wrote.
        preprocessing: What it expects of photos. ``None``: 0 to 255 in RGB where the network
            scales its input itself, otherwise BGR with the ImageNet mean subtracted.

    Raises:
        UnsupportedModelError: A layer or setting is not in the list, or the file is hostile.
        DataError: It is damaged.
    """
    path = Path(path)
    first_look("keras", path)
    with open_document(path) as document:
        if document.model is None:
            raise UnsupportedModelError(
                f"{path.name} holds weights and no architecture: say which with --arch, such as "
                "--arch vgg16, or save the whole model (model.save) and pass that file"
            )
        recipe, graph, translation = _read(document)
    inside = preprocessing is None and translation.scaled_inside
    chosen = preprocessing or _expected(inside)
    note = _describe(path, document, translation, preprocessing is None)
    provenance = Provenance(note, "as its owner states", sha256_file(path))
    module, head = _split(recipe, graph)
    fixed = recipe.height if head is not None and _is_fixed(head, module, recipe) else None
    if fixed and recipe.height != recipe.width:
        head = fixed = None  # tiles are square: such a head could never be used
    minimum = _smallest(module, max(recipe.size))
    blueprint = Blueprint("keras", recipe.to_json())
    return Backbone(path.name, module, chosen, provenance, minimum, blueprint, head, fixed)


def _expected(scaled_inside: bool) -> Preprocessing:
    if scaled_inside:
        return replace(PREPROCESSINGS["raw"], origin="the network scales its input itself")
    origin = f"not stated in the file, {USUAL} assumed (BGR, ImageNet mean subtracted)"
    return replace(PREPROCESSINGS[USUAL], origin=origin)


def build(blueprint: Blueprint) -> Built:
    """Features and head with fresh weights."""
    recipe = Recipe.from_json(blueprint.spec)
    return _split(recipe, assemble(recipe).graph)


def read_whole(path: Path) -> fx.GraphModule:
    """The whole network of a file, with its weights: ``(N, 3, H, W)`` in, its outputs out."""
    with open_document(path) as document:
        return freeze(_read(document)[1])  # type: ignore[return-value]


def _read(document: Document) -> tuple[Recipe, fx.GraphModule, Translation]:
    assert document.model is not None
    network = flatten(document.model, document.name, KNOWN)
    recipe, translation = translate(network, document.keras_3)
    places = place_arrays(document, network, translation.holders)
    # On the meta device first: what a config claims costs nothing until its weights are there.
    assembly = assemble(recipe, "meta")
    state = tensors(document, assembly, translation.holders, places)
    graph = assembly.graph.to_empty(device="cpu")
    graph.load_state_dict(state, strict=True)
    return recipe, graph, translation


def _split(recipe: Recipe, graph: fx.GraphModule) -> tuple[nn.Module, nn.Module | None]:
    graph = _without_pooling(graph.eval())
    # Made for small photos, the last maps are single pixels, which are no maps; most networks
    # take larger ones too.
    large = max(*recipe.size, USUAL_SIZE)
    size = (large, large) if _runs(graph, large) else recipe.size
    features, head = split_network(graph, torch.zeros(1, 3, *size))
    return freeze(_as_chain(features)), None if head is None else freeze(head)


def _as_chain(features: nn.Module) -> nn.Module:
    """Layers in a row as `nn.Sequential`, which is what ``--method original`` knows."""
    assert isinstance(features, fx.GraphModule)
    before, *nodes = features.graph.nodes
    chain: OrderedDict[str, nn.Module] = OrderedDict()
    for node in nodes[:-1]:
        if node.op != "call_module" or node.args != (before,) or str(node.target) in chain:
            return features
        chain[str(node.target)] = features.get_submodule(str(node.target))
        before = node
    return nn.Sequential(chain)


def _without_pooling(graph: fx.GraphModule) -> fx.GraphModule:
    """A network that ends by pooling or flattening its last map, and no class: only up to there.

    What Keras writes with ``pooling="avg"``; the last convolution is no classifier then.
    """
    output = next(node for node in graph.graph.nodes if node.op == "output")
    node = output.args[0]
    while node.op == "call_module" and isinstance(graph.get_submodule(node.target), _ENDS):
        node = node.args[0]
    shape = node.meta.get("shape", ())
    if node is output.args[0] or len(shape) != 4 or max(shape[2:]) == 1:
        return graph
    output.args = (node,)
    graph.graph.eliminate_dead_code()
    return fx.GraphModule(graph, graph.graph).eval()


_ENDS = (nn.AdaptiveAvgPool2d, GlobalMax, nn.Flatten, nn.Identity, Reorder)


def _is_fixed(head: nn.Module, module: nn.Module, recipe: Recipe) -> bool:
    """Whether the head takes maps of one size only."""
    height, width = recipe.size
    try:
        with torch.inference_mode():
            head(module(torch.zeros(1, 3, 2 * height, 2 * width)))
    except (RuntimeError, ValueError):
        return True
    return False


def _smallest(module: nn.Module, most: int) -> int:
    """The least side that leaves a pixel in the last map, by halving."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if _runs(module, middle):
            high = middle
        else:
            low = middle + 1
    return low


def _runs(module: nn.Module, size: int) -> bool:
    try:
        with torch.inference_mode():
            return min(module(torch.zeros(1, 3, size, size)).shape) > 0
    except (RuntimeError, ValueError):
        return False


def _describe(path: Path, document: Document, found: Translation, guessed: bool) -> str:
    parts = [f"local file {path.name} (Keras {document.version}, {len(found.entries)} layers)"]
    if found.notes:
        parts.append(f"preprocessing inside the network: {', '.join(found.notes)}")
    elif guessed:
        parts.append(
            f"preprocessing not stated in the file, assumed {USUAL} (BGR, ImageNet mean "
            "subtracted; --preprocessing says otherwise)"
        )
    return "; ".join(parts)
