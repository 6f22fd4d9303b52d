"""Channels taken by number: slices, splits and shuffles of a map as layers that can be cut."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from finicky.backbones.vocabulary import Reshape

# What only moves numbers about, by the names of functions, methods and operators.
_MOVES = frozenset(
    """
    getitem split split_with_sizes chunk tensor_split unbind narrow slice select index_select
    channel_shuffle view reshape flatten unflatten transpose permute swapaxes movedim contiguous
    clone squeeze unsqueeze flip roll
    """.split()  # noqa: SIM905
)


class ChannelPick(nn.Module):
    """Some channels of a map, by number, in a given order.

    One step for slices, splits and shuffles, whose numbers would otherwise be spread over the code
    around them, where a cut cannot change them.
    """

    order: Tensor
    start: int | None

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order.clone(), persistent=False)
        self.start = first_of(order)

    def forward(self, x: Tensor) -> Tensor:
        if self.start is not None:
            return x.narrow(1, self.start, len(self.order))
        return x.index_select(1, self.order)


def first_of(order: Tensor) -> int | None:
    """The first channel, where they follow each other.

    Looked at once, not in a pass: what is exported may not look at values.
    """
    first, count = int(order[0]), len(order)
    return first if order.tolist() == list(range(first, first + count)) else None


def picks_as_layers(traced: fx.GraphModule, example: Tensor, *, stored: bool = True) -> None:
    """Whatever takes channels of a map by number becomes a `ChannelPick`, in place.

    Found by what the steps do with numbered elements, not by how they are written: ``x[:, :8]``,
    ``chunk``, or ``view``, ``transpose``, ``view``. What takes all channels in their order is left
    out: it would only hide how channels hang together.

    Args:
        traced: The network.
        example: A photo that it takes.
        stored: Whether tensors that it carries, such as tables of channels, are known by now.
    """
    watcher = _Watcher(traced, stored=stored)
    with torch.inference_mode():
        watcher.run(example)
    number = 0
    for node, (source, order) in watcher.picks.items():
        if len(order) == watcher.channels[source] and order == list(range(len(order))):
            node.replace_all_uses_with(source)
            continue
        while hasattr(traced, f"channel_pick_{number}"):
            number += 1
        name = f"channel_pick_{number}"
        traced.add_submodule(name, ChannelPick(torch.tensor(order)))
        with traced.graph.inserting_after(node):
            layer = traced.graph.call_module(name, (source,))
        node.replace_all_uses_with(layer)
    traced.graph.eliminate_dead_code()
    traced.recompile()


class _Watcher(fx.Interpreter):
    """Runs a network and follows the elements of maps through steps that only move them.

    Attributes:
        picks: The map and the channels that a node takes of it.
        channels: How many channels a map has.
    """

    def __init__(self, traced: fx.GraphModule, *, stored: bool) -> None:
        super().__init__(traced)
        self._stored = stored
        self.picks: dict[fx.Node, tuple[fx.Node, list[int]]] = {}
        self.channels: dict[fx.Node, int] = {}
        self._ids: dict[fx.Node, tuple[fx.Node, Any]] = {}
        self._maps: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if not self._follow(n) and isinstance(value, Tensor) and value.ndim == 4:
            self._maps[n] = value.shape
            self.channels[n] = value.shape[1]
        return value

    def _follow(self, node: fx.Node) -> bool:
        """Whether a node moves elements of one map about."""
        if node.op == "call_module":
            layer = self.fetch_attr(str(node.target))
            if not isinstance(layer, Reshape):
                return False
        elif node.op not in ("call_function", "call_method") or _name(node) not in _MOVES:
            return False
        if not self._stored and any(n.op == "get_attr" for n in node.all_input_nodes):
            return False
        sources = [n for n in node.all_input_nodes if n in self._ids or n in self._maps]
        if len(sources) != 1:
            return False
        source, ids = self._ids.get(sources[0]) or (sources[0], self._fresh(sources[0]))
        args, keywords = self.fetch_args_kwargs_from_env(node)

        def swap(given: Any, own: Any) -> Any:
            if own is sources[0]:
                return ids
            if isinstance(own, (list, tuple)) and isinstance(given, (list, tuple)):
                return type(given)(swap(g, o) for g, o in zip(given, own, strict=True))
            return given

        moved_args = [swap(g, o) for g, o in zip(args, node.args, strict=True)]
        moved_keywords = {k: swap(g, node.kwargs[k]) for k, g in keywords.items()}
        if node.op == "call_module":
            moved = self.fetch_attr(str(node.target))(*moved_args)
        elif node.op == "call_method":
            first, *rest = moved_args
            moved = getattr(first, str(node.target))(*rest, **moved_keywords)
        else:
            moved = node.target(*moved_args, **moved_keywords)  # type: ignore[operator]
        self._ids[node] = (source, moved)
        order = _channels_of(moved, self._maps[source])
        if order is not None:
            self.picks[node] = (source, order)
        return True

    def _fresh(self, node: fx.Node) -> Tensor:
        shape = self._maps[node]
        return torch.arange(math.prod(shape)).view(shape)


def _name(node: fx.Node) -> str:
    """Of a function, method or operator, without its overload."""
    if isinstance(node.target, str):
        return node.target
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", ""))


def _channels_of(moved: Any, shape: torch.Size) -> list[int] | None:
    """Which channels of a map of ``shape`` these elements are; None where they are something else.

    Elements are numbered through the map.
    """
    if not isinstance(moved, Tensor) or moved.ndim != 4 or not moved.numel():
        return None
    if (moved.shape[0], *moved.shape[2:]) != (shape[0], *shape[2:]):
        return None
    pixels = math.prod(shape[2:])
    order = torch.div(moved[0, :, 0, 0], pixels, rounding_mode="floor")
    whole = torch.arange(math.prod(shape)).view(shape)
    if int(order.max()) >= shape[1] or not torch.equal(whole[:, order], moved):
        return None
    return [int(c) for c in order]
