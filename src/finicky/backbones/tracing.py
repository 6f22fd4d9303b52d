"""A network's Python code as a graph of layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from finicky.backbones.picks import picks_as_layers
from finicky.errors import UnsupportedModelError

# Whole even where they hold other layers: what follows looks for these kinds.
_LAYERS = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
)
_ACTIVATIONS: dict[Any, type[nn.Module]] = {
    F.relu: nn.ReLU,
    F.relu_: nn.ReLU,
    torch.relu: nn.ReLU,
    torch.relu_: nn.ReLU,
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    F.relu6: nn.ReLU6,
    F.silu: nn.SiLU,
    F.hardswish: nn.Hardswish,
    F.gelu: nn.GELU,
    F.mish: nn.Mish,
}


def trace_network(network: nn.Module, example: Tensor) -> fx.GraphModule:
    """The network as an `fx.GraphModule` of its own layers, in which activations are layers too.

    What cannot be traced (code that looks at values) stays one node, its innermost layer only.

    Args:
        network: In eval mode; what it does in training is lost. Not changed; layers are shared.
        example: What it takes.
    """
    whole: set[nn.Module] = set()
    while True:
        tracer = _Tracer(whole)
        try:
            graph = tracer.trace(network)
            break
        except Exception as error:  # tracing raises whatever the traced code does with proxies
            if len(tracer.inside) < 2:
                raise UnsupportedModelError(
                    f"its code cannot be traced: {str(error).strip().splitlines()[0]}"
                ) from error
            whole.add(tracer.inside[-1])
    traced = fx.GraphModule(tracer.root, graph)
    _activations_as_layers(traced)
    _open_sizes(traced)
    try:
        picks_as_layers(traced, example)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[:1]
        raise UnsupportedModelError(
            f"it does not run on photos of {example.shape[2]} px: {''.join(reason) or error!r}"
        ) from error
    _check_same(network, traced, example)
    return traced


def _check_same(network: nn.Module, traced: nn.Module, example: Tensor) -> None:
    """Refuse a network whose code does something that was not seen while it was traced."""
    random = torch.Generator().manual_seed(0)
    photo = torch.randn(example.shape, generator=random)
    with torch.inference_mode():
        wanted, answer = network(photo), traced(photo)
    if isinstance(wanted, Tensor) and not torch.allclose(wanted, answer, rtol=1e-4, atol=1e-5):
        raise UnsupportedModelError("its code does something else from one photo to the next")


def fold_standardised(network: nn.Module) -> None:
    """Convolutions that standardise their weights in every pass become plain ones, in place.

    As long as nothing is trained the standardised weights are fixed. Cut before they are folded,
    they would be standardised over fewer inputs, to other numbers.
    """
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer).__name__ in ("StdConv2d", "ScaledStdConv2d"):
                setattr(parent, name, _folded(layer))


def _folded(layer: Any) -> nn.Conv2d:
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
    )
    gain = (layer.gain * layer.scale).view(-1) if hasattr(layer, "gain") else None
    rows = layer.weight.reshape(1, layer.out_channels, -1)
    with torch.no_grad():
        new = F.batch_norm(rows, None, None, weight=gain, training=True, momentum=0, eps=layer.eps)
        plain.weight.copy_(new.reshape_as(layer.weight))
        if plain.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain.eval()


class _Tracer(fx.Tracer):
    """Looks into every layer but those with weights of their own, and ``whole``."""

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self._whole = whole
        self.inside: list[nn.Module] = []

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        self.inside = [root]
        return super().trace(root, concrete_args)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        innermost = next(m.children(), None) is None and next(m.parameters(), None) is not None
        if m in self._whole or isinstance(m, _LAYERS) or innermost:
            return True
        return not isinstance(m, nn.Sequential) and super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.inside.append(m)
        result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()  # not reached when tracing fails: then the last one is to blame
        return result


def _activations_as_layers(traced: fx.GraphModule) -> None:
    """`F.relu(x)` becomes a layer of its own, so that responses can be read there."""
    number = 0
    for node in list(traced.graph.nodes):
        if node.op not in ("call_function", "call_method") or node.target not in _ACTIVATIONS:
            continue
        options = {k: v for k, v in node.kwargs.items() if k not in ("inplace", "input")}
        if len(node.all_input_nodes) != 1 or (options and node.target is not F.gelu):
            continue
        name = f"activation_{number}"
        while hasattr(traced, name):
            number += 1
            name = f"activation_{number}"
        traced.add_submodule(name, _ACTIVATIONS[node.target](**options))
        with traced.graph.inserting_before(node):
            layer = traced.graph.call_module(name, (node.all_input_nodes[0],))
        node.replace_all_uses_with(layer)
        traced.graph.erase_node(node)
        number += 1
    traced.recompile()


def _open_sizes(traced: fx.GraphModule) -> None:
    """``x.reshape(b, n, c)`` with sizes of another map becomes ``x.reshape(b, n, -1)``.

    Attention asks what comes in for its number of channels and shapes what goes out by it; a cut
    may change the one and not the other. Of four sizes the second is the channels'.
    """
    for node in traced.graph.nodes:
        if node.target not in ("reshape", "view", torch.reshape):
            continue
        sizes = node.args[1:]
        packed = len(sizes) == 1 and isinstance(sizes[0], (list, tuple))
        new = list(sizes[0] if packed else sizes)
        place = {2: 1, 3: 2, 4: 1}.get(len(new))
        if place is None or -1 in new or not isinstance(new[place], fx.Node):
            continue
        new[place] = -1
        node.args = (node.args[0], tuple(new)) if packed else (node.args[0], *new)
    traced.recompile()
