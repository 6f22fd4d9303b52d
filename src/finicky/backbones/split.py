"""Where a classifier's features end and its head begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from finicky.errors import UnsupportedModelError

_PASSED_OVER = (
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
)
_PASSED_OVER_FUNCTIONS = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.dropout, F.dropout2d)


def split_network(graph: fx.GraphModule, example: Tensor) -> tuple[nn.Module, nn.Module | None]:
    """Cut a traced network in two at its last map, before what pools, flattens and classifies.

    The split is at the last tensor ``(N, C, h, w)``, h or w above 1, through which everything
    flows and behind which something learned is left: the layer that makes the classes is always
    behind it, be it linear or, as SqueezeNet's, a convolution. Adaptive pooling and dropout
    directly before the split go to the head, so that the features keep the size of their map.

    Args:
        graph: In eval mode; takes ``example`` and returns one tensor. Not changed; the two parts
            share its layers.
        example: ``(N, 3, H, W)`` float, large enough that the last map is more than one pixel.

    Returns:
        Features and head; the head is ``None`` where the network ends in a map.

    Raises:
        UnsupportedModelError: There is no such place, or more than one output.
    """
    nodes = list(graph.graph.nodes)
    shapes = _shapes(graph, example)
    last = nodes[-1].args[0]
    if not isinstance(last, fx.Node) or last not in shapes:
        raise UnsupportedModelError(
            "the network has several outputs; only one that returns a single tensor can be used"
        )
    square = example.shape[2] == example.shape[3]
    if _is_map(shapes[last], square):
        return graph, None
    learned = [i for i, node in enumerate(nodes) if _learns(graph, node)]
    if not learned:
        raise UnsupportedModelError("the network has no convolution or linear layer")
    narrow = [
        node
        for node in _bottlenecks(nodes)
        if nodes.index(node) < learned[-1] and _is_map(shapes.get(node, ()), square)
    ]
    if not narrow or narrow[-1].op == "placeholder":
        raise UnsupportedModelError(
            "no feature map (N, C, h, w) was found through which the whole network flows: "
            "there is nothing to prune"
        )
    node = narrow[-1]
    while _is_passed_over(graph, node) and node.all_input_nodes[0] in narrow:
        node = node.all_input_nodes[0]
    return _part(graph, None, node), _part(graph, node, last)


def _shapes(graph: fx.GraphModule, example: Tensor) -> dict[fx.Node, Sequence[int]]:
    """The shape of every node that is a tensor."""
    found: dict[fx.Node, Sequence[int]] = {}

    class Watcher(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n] = tuple(value.shape)
            return value

    with torch.inference_mode():
        Watcher(graph).run(example)
    return found


def _is_map(shape: Sequence[int], square: bool) -> bool:
    """Channels in the last axis, as ConvNeXt's, are none: a square photo shows them."""
    if len(shape) != 4 or max(shape[2:]) <= 1:
        return False
    return not (square and shape[1] == shape[2] != shape[3])


def _bottlenecks(nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """Nodes through which everything that depends on the input flows."""
    place = {node: number for number, node in enumerate(nodes)}
    depends: set[fx.Node] = set()
    found, furthest = [], -1
    for node in nodes[:-1]:
        if node.op != "placeholder" and not any(n in depends for n in node.all_input_nodes):
            continue  # constants and weights
        depends.add(node)
        if furthest <= place[node]:
            found.append(node)
        furthest = max(furthest, *(place[user] for user in node.users), -1)
    return found


def _learns(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node multiplies by learned matrices; normalisation and scales do not count."""
    if node.op == "call_module":
        layer = graph.get_submodule(str(node.target))
        return any(p.ndim >= 2 for p in layer.parameters())
    weights = [n for n in node.all_input_nodes if n.op == "get_attr"]
    return any(_attribute(graph, str(n.target)).ndim >= 2 for n in weights)


def _attribute(graph: fx.GraphModule, target: str) -> Tensor:
    path, _, name = target.rpartition(".")
    value = getattr(graph.get_submodule(path), name)
    return value if isinstance(value, Tensor) else torch.empty(0)


def _is_passed_over(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), _PASSED_OVER)
    return node.op == "call_function" and node.target in _PASSED_OVER_FUNCTIONS


def _part(graph: fx.GraphModule, start: fx.Node | None, end: fx.Node) -> fx.GraphModule:
    """The network from the result of ``start`` (``None``: the input) to that of ``end``."""
    part = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    if start is not None:
        copies[start] = part.placeholder("maps")
    for node in _needed(end, start):
        copies[node] = part.node_copy(node, lambda n: copies[n])
    part.output(copies[end])
    return fx.GraphModule(graph, part).eval()


def _needed(end: fx.Node, given: fx.Node | None) -> list[fx.Node]:
    """What ``end`` is made from, behind ``given``, in order of execution."""
    wanted, waiting = set(), [end]
    while waiting:
        node = waiting.pop()
        if node not in wanted and node is not given:
            wanted.add(node)
            waiting += node.all_input_nodes
    return [node for node in end.graph.nodes if node in wanted]
