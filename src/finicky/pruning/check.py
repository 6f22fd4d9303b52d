"""What a cut must come to, worked out from the plan and the unpruned network alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.errors import FinickyError, UnsupportedModelError
from finicky.pruning.channels import ChannelGroup
from finicky.pruning.counts import Counts
from finicky.pruning.dependencies import goes_by_whole_groups, is_depthwise

# By name of a layer or lone parameter and side: which of its channels the plan removes.
Removed = Mapping[tuple[str, str], np.ndarray]

# Scale-relative; sums in another order differ by less, a wrong channel by far more.
TOLERANCE = 1e-3


def removed_channels(
    groups: Sequence[ChannelGroup], keep: Mapping[str, Sequence[int]]
) -> dict[tuple[str, str], np.ndarray]:
    """Everything that goes when only ``keep`` stays of the convolutions that it names."""
    gone: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for group in groups:
        slots: set[int] = set()
        for producer in group.producers:
            if producer.name in keep:
                stays = np.isin(producer.channels, list(keep[producer.name]))
                slots |= {int(slot) for slot in producer.slots[~stays]}
        dark = np.isin(group.units, group.units[sorted(slots)])
        for member in group.members:
            gone[member.layer, member.side] |= {int(c) for c in member.channels[dark[member.slots]]}
    return {key: np.array(sorted(lost), dtype=np.int64) for key, lost in gone.items() if lost}


def expected_counts(
    module: nn.Module, removed: Removed, size: int, *, uses: Mapping[str, int] | None = None
) -> Counts:
    """Parameters and multiply-accumulates after the cut; see `count` for what is counted.

    ``uses`` is from `uses_of_weights`, where it is known already.
    """
    lost = {key: len(channels) for key, channels in removed.items()}
    positions = uses_of_weights(module, size) if uses is None else uses
    params = macs = channels = 0
    for name, layer in module.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            weights, outputs = _left(name, layer, lost)
            params += weights + (outputs if layer.bias is not None else 0)
            params += sum(p.numel() for n, p in own.items() if n not in ("weight", "bias"))
            macs += weights * positions.get(name, 0)
            channels += outputs if isinstance(layer, nn.Conv2d) else 0
            continue
        for inner, parameter in own.items():
            alone = f"{name}.{inner}" if name else inner
            gone = max(lost.get((key, s), 0) for key in (name, alone) for s in ("both", "out"))
            # A normalisation's numbers lie along its channels; so do those of a scale.
            longest = max(parameter.shape, default=1)
            params += parameter.numel() // longest * (longest - gone)
    return Counts(params, macs, channels)


def check_counts(found: Counts, expected: Counts) -> None:
    """Refuse a cut that did not remove exactly what the plan says."""
    if found != expected:
        raise FinickyError(
            f"the cut network has {found.params:,} parameters, {found.macs:,} MACs and "
            f"{found.channels:,} channels; by the plan it must have {expected.params:,}, "
            f"{expected.macs:,} and {expected.channels:,}"
        )


def check_equivalent(
    parts: Sequence[nn.Module],
    smaller: Sequence[nn.Module],
    removed: Removed,
    size: int,
    *,
    copy: nn.Sequential | None = None,
) -> None:
    """Refuse a cut network that answers otherwise than the whole one with those channels dark.

    A channel is dark when every layer that makes it gives zero. Where normalisation runs over
    channels, dark ones are left out of its statistics, as in the cut network.

    Args:
        parts: The unpruned features, and their head if there is one.
        smaller: The same, cut.
        removed: From `removed_channels`, with the names of ``parts[0]``, or, with a head, of
            `Whole`.
        size: Side of the trial input in px.
        copy: A copy of ``parts`` whose channels may be made dark; one is made otherwise.
    """
    photos = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        _compare(_darkened(parts, removed, copy=copy), smaller, photos)
    except UnsupportedModelError:
        # What gives something for nothing, such as a sigmoid, lights dark channels up again. Then
        # nobody may listen to them, in maps that differ from nothing by the same number everywhere.
        _compare(_darkened(parts, removed, deaf=True), smaller, photos, flat=True)


def _darkened(
    parts: Sequence[nn.Module],
    removed: Removed,
    *,
    copy: nn.Sequential | None = None,
    deaf: bool = False,
) -> nn.Sequential:
    """Copies whose removed channels are zero where they are made; deaf: and where they are used."""
    dark = copy or nn.Sequential(*deepcopy(list(parts))).eval()
    prefixes = ("features.", "head.") if len(parts) == 2 else ("",)
    names: dict[str, nn.Module] = {}
    numbers: dict[str, Tensor] = {}
    for prefix, part in zip(prefixes, dark, strict=True):
        names |= {f"{prefix}{n}": m for n, m in part.named_modules()}
        numbers |= {f"{prefix}{n}": m for n, m in part.named_parameters()}
        numbers |= {f"{prefix}{n}": m for n, m in part.named_buffers()}
    with torch.inference_mode():
        for (name, side), channels in removed.items():
            owner, _, _ = name.rpartition(".")
            if name in numbers and _normalises(names.get(owner)):
                _darken(names[owner], channels)
            elif name in numbers:
                _darken_parameter(numbers[name], channels)
            elif side != "in":
                _darken(names[name], channels)
            elif deaf:
                _deafen(names[name], channels)
    return dark


def _compare(
    dark: nn.Sequential, smaller: Sequence[nn.Module], photos: Tensor, *, flat: bool = False
) -> None:
    """Both on the same photos, part by part."""
    wanted, answer = photos, photos
    with torch.inference_mode():
        for part, cut in zip(dark, smaller, strict=True):
            wanted, answer = part(wanted), cut(answer)
            _compare_answers(wanted, answer, flat=flat)


def _compare_answers(wanted: Tensor, answer: Tensor, *, flat: bool) -> None:
    """Maps are compared without the channels that are zero, or if flat the same, throughout."""
    if wanted.ndim == 4:
        lit, other = (_lit(maps, flat=flat) for maps in (wanted, answer))
        if int(lit.sum()) != int(other.sum()):
            raise _disagrees(f"{int(other.sum())} live channels where {int(lit.sum())} should be")
        wanted, answer = wanted[:, lit], answer[:, other]
    if wanted.numel() == 0:
        return
    difference = float((wanted - answer).abs().max() / wanted.abs().max().clamp(min=1e-30))
    if not difference <= TOLERANCE:
        raise _disagrees(f"answers differ by {difference:.1e} of their size")


def _lit(maps: Tensor, *, flat: bool) -> Tensor:
    if flat:
        spread = maps.amax((0, 2, 3)) - maps.amin((0, 2, 3))
        return spread > 1e-6 * maps.abs().amax((0, 2, 3))
    return maps.abs().amax((0, 2, 3)) > 0


def _deafen(layer: nn.Module, channels: np.ndarray) -> None:
    """Let nothing of some inputs of a layer through."""
    if isinstance(layer, nn.Conv2d):
        width = layer.in_channels // layer.groups
        share = layer.out_channels // layer.groups
        for channel in channels.tolist():
            group, place = divmod(channel, width)
            layer.weight[group * share : (group + 1) * share, place] = 0
    elif isinstance(layer, nn.Linear):
        layer.weight[:, torch.from_numpy(channels)] = 0


def _disagrees(what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        "this network cannot be cut safely: the cut network does not compute what the whole one "
        f"does without those channels ({what})"
    )


def _left(
    name: str, layer: nn.Conv2d | nn.Linear, lost: Mapping[tuple[str, str], int]
) -> tuple[int, int]:
    """How many weights and how many outputs a layer has left."""
    both = lost.get((name, "both"), 0)
    gone_in, gone_out = both + lost.get((name, "in"), 0), both + lost.get((name, "out"), 0)
    if isinstance(layer, nn.Linear):
        outputs = layer.out_features - gone_out
        return outputs * (layer.in_features - gone_in), outputs
    outputs = layer.out_channels - gone_out
    groups = layer.groups
    if is_depthwise(layer):
        groups = outputs
    elif goes_by_whole_groups(layer):
        groups = outputs * layer.groups // layer.out_channels
    kernel = layer.kernel_size[0] * layer.kernel_size[1]
    return outputs * ((layer.in_channels - gone_in) // groups) * kernel, outputs


def uses_of_weights(module: nn.Module, size: int) -> dict[str, int]:
    """How often each layer's weights are used in one forward pass, all its calls together."""
    kinds = (nn.Conv2d, nn.Linear)
    names: dict[nn.Module, str] = {m: n for n, m in module.named_modules() if isinstance(m, kinds)}
    found: defaultdict[str, int] = defaultdict(int)

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        outputs = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
        found[names[layer]] += output.numel() // int(outputs)  # type: ignore[arg-type]

    hooks = [layer.register_forward_hook(note) for layer in names]
    try:
        with torch.inference_mode():
            module(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _darken(layer: nn.Module, channels: np.ndarray) -> None:
    """Make some outputs of a layer zero, whatever its input."""
    index = torch.from_numpy(channels)
    if _normalises(layer):
        layer.register_forward_hook(_without(layer, index))
        return
    for name in ("weight", "bias", "running_mean"):
        value = getattr(layer, name, None)
        if isinstance(value, Tensor):
            value[index] = 0


def _normalises(layer: nn.Module | None) -> bool:
    """Over channels, so that each depends on which others there are."""
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups == 1
    return isinstance(layer, nn.LayerNorm) or type(layer).__name__ == "GlobalResponseNorm"


def _darken_parameter(parameter: Tensor, channels: np.ndarray) -> None:
    axis = int(np.argmax(parameter.shape))
    parameter.index_fill_(axis, torch.from_numpy(channels), 0)


def _without(
    layer: nn.Module, dark: Tensor
) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    """A hook that normalises over the channels that stay, and gives zero for the others."""
    weight, bias = layer.weight.flatten(), layer.bias.flatten()  # type: ignore[operator]
    stay = torch.ones(len(weight), dtype=torch.bool)
    stay[dark] = False

    def renormalise(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        axis = 1 if _runs_over_maps(layer, inputs[0]) else -1
        act = getattr(layer, "act", None)
        x = inputs[0].transpose(axis, -1)[..., stay]
        if isinstance(layer, nn.LayerNorm):
            new = F.layer_norm(x, x.shape[-1:], weight[stay], bias[stay], layer.eps)
        elif isinstance(layer, nn.GroupNorm):
            new = F.layer_norm(x, x.shape[1:], eps=layer.eps) * weight[stay] + bias[stay]
        else:
            size = x.norm(dim=(1, 2), keepdim=True)
            share = size / (size.mean(-1, keepdim=True) + layer.eps)
            new = x + bias[stay] + weight[stay] * x * share
        result = torch.zeros_like(output.transpose(axis, -1))
        result[..., stay] = act(new) if isinstance(act, nn.Module) else new
        return result.transpose(axis, -1)

    return renormalise


def _runs_over_maps(layer: nn.Module, x: Tensor) -> bool:
    """Whether a layer normalises ``(N, C, H, W)`` over C, not ``(N, H, W, C)``."""
    if isinstance(layer, nn.GroupNorm):
        return True
    if hasattr(layer, "channel_dim"):
        return bool(layer.channel_dim == 1)
    return x.ndim == 4 and "2d" in type(layer).__name__.lower()
