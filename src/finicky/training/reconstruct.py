"""After the cut: let the filters that stay stand in for those that went.

A cut layer answers with what is left of its inputs; layer after layer the signal fades. Here each
convolution's weights are fitted anew, from the input on, so that on unlabelled tiles it answers as
the unpruned network did: ridge regression onto the unpruned responses, drawn towards the weights
that were there, as firmly as other tiles, held out, tell. After He et al. 2017, "Channel Pruning
for Accelerating Very Deep Neural Networks", arXiv:1707.06168, section 3.1, whose targets are the
unpruned network's too; unlike theirs, channels are chosen by the masks, and a layer that cannot be
improved on unseen tiles keeps its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.backbones import Backbone, convolutions, freeze
from finicky.backbones.alexnet import SameConv2d, same_padding
from finicky.progress import Progress, silent

_BATCH = 32
# Strength of the pull towards the old weights, as a share of the mean variance of a layer's inputs.
RIDGES = (0.01, 0.1, 1.0, 10.0, math.inf)
MOST_RAISED = 10.0
DEPTHWISE_RIDGE = 0.03  # nine numbers a channel are fitted to thousands of rows


@dataclass(frozen=True)
class ReconstructionSettings:
    """How much is looked at.

    Attributes:
        tiles: Unlabelled tiles that are looked at.
        positions: Places of each map that are looked at, in each tile.
        held_out: Share of the tiles that chooses how firmly the old weights are held, layer by
            layer, instead of being fitted to.
        memory_bytes: For the unpruned responses; fewer positions are taken where they would not
            fit.
        seed: Of the places.
    """

    tiles: int = 512
    positions: int = 24
    held_out: float = 0.25
    memory_bytes: int = 256 * 2**20
    seed: int = 0


class Reconstructor:
    """Remembers how an unpruned network answers a few tiles, and teaches it to cut ones.

    Args:
        backbone: Unpruned.
        inputs: ``(N, 3, S, S)`` float, preprocessed tiles; no labels are needed.
        settings: How much is looked at.
    """

    def __init__(
        self,
        backbone: Backbone,
        inputs: Tensor,
        settings: ReconstructionSettings = ReconstructionSettings(),
        *,
        progress: Progress = silent,
    ) -> None:
        self._inputs = inputs[: settings.tiles]
        self._settings = settings
        layers = convolutions(backbone.module, inputs.shape[-1])
        channels = sum(conv.out_channels for conv in layers.values())
        fitting = settings.memory_bytes // (4 * channels * max(len(self._inputs), 1))
        self._positions = max(1, min(settings.positions, fitting))
        self._places: dict[str, Tensor] = {}
        self._targets = self._watch(backbone.module, layers, progress)

    def fewer(self, tiles: int) -> Reconstructor:
        """The same with the first so many tiles at most: quicker, and a little less sure."""
        other, seen = copy(self), min(tiles, len(self._inputs))
        other._inputs = self._inputs[:seen]
        other._places = {name: places[:seen] for name, places in self._places.items()}
        share = {
            name: seen * len(rows) // len(self._inputs) for name, rows in self._targets.items()
        }
        other._targets = {name: rows[: share[name]] for name, rows in self._targets.items()}
        return other

    def apply(
        self, module: nn.Module, kept: Mapping[str, Sequence[int]], *, progress: Progress = silent
    ) -> nn.Module:
        """Fit every convolution of a cut network, in forward order; changes and returns it.

        Args:
            module: Cut from the network that this was made with.
            kept: Kept output channels of every convolution, as in the plan.
            progress: Told of each convolution.

        Convolutions that are neither plain nor depthwise keep their weights.
        """
        layers = convolutions(module, self._inputs.shape[-1])
        with torch.inference_mode():
            stepper = _Stepper(module, self._inputs)
            for number, (name, conv) in enumerate(layers.items()):
                progress("reconstruct", number, len(layers))
                if _can_fit(conv):
                    self._fit(stepper, name, conv, list(kept[name]))
        progress("reconstruct", len(layers), len(layers))
        return freeze(module)

    def rescale(
        self, module: nn.Module, kept: Mapping[str, Sequence[int]], *, progress: Progress = silent
    ) -> nn.Module:
        """Scale and shift every channel of a cut network, in forward order; changes and returns it.

        Afterwards each convolution answers with the mean and spread that the unpruned one had, so
        that what follows, normalisation included, meets what it was made for: one number a channel
        where `apply` fits all. A channel that went silent, or would have to be raised more than
        tenfold, keeps its weights. Arguments as for `apply`.
        """
        layers = convolutions(module, self._inputs.shape[-1])
        with torch.inference_mode():
            stepper = _Stepper(module, self._inputs)
            for number, (name, conv) in enumerate(layers.items()):
                progress("rescale", number, len(layers))
                places = iter(self._places[name].split(_BATCH))
                inputs = list(stepper.inputs_of(conv))  # all, since asking hinders the layer
                found = torch.cat([_answers(conv, x, next(places)) for x in inputs])
                _rescale(conv, found, self._targets[name][:, list(kept[name])])
        progress("rescale", len(layers), len(layers))
        return freeze(module)

    def _fit(self, stepper: _Stepper, name: str, conv: nn.Conv2d, kept: list[int]) -> None:
        places = iter(self._places[name].split(_BATCH))
        rows = torch.cat([_patches(x, conv, next(places)) for x in stepper.inputs_of(conv)])
        wanted = self._targets[name][:, kept]
        if conv.groups == 1:
            tiles = max(1, int(len(self._inputs) * self._settings.held_out))
            held_out = tiles * len(rows) // len(self._inputs)
            _fit_plain(conv, rows.flatten(1), wanted, held_out)
        else:
            _fit_depthwise(conv, rows, wanted)

    def _watch(
        self, module: nn.Module, layers: Mapping[str, nn.Conv2d], progress: Progress
    ) -> dict[str, Tensor]:
        """What each convolution of the unpruned network answers at chosen places, ``(n, C)``."""
        random = torch.Generator().manual_seed(self._settings.seed)
        found: dict[str, list[Tensor]] = {name: [] for name in layers}
        chosen: dict[str, list[Tensor]] = {name: [] for name in layers}

        def listen(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            def note(_: nn.Module, __: object, maps: Tensor) -> None:
                count = maps.shape[2] * maps.shape[3]
                places = torch.stack(
                    [torch.randperm(count, generator=random)[: self._positions] for _ in maps]
                )
                chosen[name].append(places)
                index = places[:, None].expand(-1, maps.shape[1], -1)
                found[name].append(maps.flatten(2).gather(2, index).transpose(1, 2).flatten(0, 1))

            return note

        hooks = [conv.register_forward_hook(listen(name)) for name, conv in layers.items()]
        try:
            with torch.inference_mode():
                for start in range(0, len(self._inputs), _BATCH):
                    progress("watch the full network", start, len(self._inputs))
                    module(self._inputs[start : start + _BATCH])
        finally:
            for hook in hooks:
                hook.remove()
        self._places = {name: torch.cat(places) for name, places in chosen.items()}
        return {name: torch.cat(parts) for name, parts in found.items()}


def repair_by(
    kind: str, reconstructor: Reconstructor, module: nn.Module, kept: Mapping[str, Sequence[int]]
) -> nn.Module:
    """``reconstruct``, ``rescale`` or ``none`` by name; changes and returns the cut network."""
    if kind == "reconstruct":
        return reconstructor.apply(module, kept)
    return reconstructor.rescale(module, kept) if kind == "rescale" else module


class _Enough(Exception):
    """Ends a forward pass at the layer whose input was wanted."""


class _Stepper:
    """Walks tiles through a network, layer by layer, so that what was run is not run again.

    Of a sequence of layers, the maps before the current one are kept; a network that is no
    sequence is one layer here, and is run from its input each time.
    """

    def __init__(self, module: nn.Module, inputs: Tensor) -> None:
        self._steps = list(module) if isinstance(module, nn.Sequential) else [module]
        self._here = 0
        self._maps = list(inputs.split(_BATCH))

    def inputs_of(self, conv: nn.Conv2d) -> Iterator[Tensor]:
        """What reaches a convolution, batch by batch; ask in forward order."""
        while all(conv is not layer for layer in self._steps[self._here].modules()):
            step = self._steps[self._here]
            self._maps = [step(x) for x in self._maps]
            self._here += 1
        caught: list[Tensor] = []

        def catch(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            caught.append(arguments[0])
            raise _Enough

        hook = conv.register_forward_pre_hook(catch)
        try:
            for x in self._maps:
                try:
                    self._steps[self._here](x)
                except _Enough:
                    yield caught.pop()
        finally:
            hook.remove()


def _answers(conv: nn.Conv2d, x: Tensor, places: Tensor) -> Tensor:
    """What a convolution answers at some places of its map, ``(n·P, C)``."""
    maps = conv(x)
    index = places[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2).flatten(0, 1)


def _rescale(conv: nn.Conv2d, found: Tensor, wanted: Tensor) -> None:
    """Bring ``(n, C)`` answers to the means and spreads of ``(n, C)`` wanted ones."""
    scale = wanted.std(0) / found.std(0).clamp(min=1e-12)
    scale = torch.where((found.std(0) > 0) & (scale < MOST_RAISED) & (scale > 0), scale, 1.0)
    conv.weight.mul_(scale.view(-1, 1, 1, 1))
    if conv.bias is not None:
        conv.bias.mul_(scale).add_(wanted.mean(0) - found.mean(0) * scale)


def _can_fit(conv: nn.Conv2d) -> bool:
    plain = conv.groups == 1 or conv.groups == conv.in_channels == conv.out_channels
    return (
        plain
        and type(conv) in (nn.Conv2d, SameConv2d)
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
        and not isinstance(conv.padding, str)
    )


def _patches(x: Tensor, conv: nn.Conv2d, places: Tensor) -> Tensor:
    """What a convolution sees at some places of its output.

    Args:
        x: ``(n, C, H, W)`` input.
        conv: Of any kernel, stride and padding.
        places: ``(n, P)`` int64, indices into the flattened output map.

    Returns:
        ``(n·P, C, kh, kw)`` float.
    """
    (height, width), (down, right) = conv.kernel_size, conv.stride
    if isinstance(conv, SameConv2d):
        above = same_padding(x.shape[2], height, down)
        beside = same_padding(x.shape[3], width, right)
    else:
        above, beside = (int(conv.padding[0]),) * 2, (int(conv.padding[1]),) * 2
    padded = F.pad(x, (*beside, *above)).permute(0, 2, 3, 1).contiguous()
    across = (padded.shape[2] - width) // right + 1
    top, left = places // across * down, places % across * right
    photo = torch.arange(len(x))[:, None]
    parts = [
        padded[photo, top + dy, left + dx] for dy in range(height) for dx in range(width)
    ]  # each (n, P, C)
    return torch.stack(parts, -1).flatten(0, 1).unflatten(-1, (height, width))


@dataclass(frozen=True)
class _Normal:
    """The normal equations of a layer: what one pass over some rows tells about every ridge.

    Rows lie around the means of all rows, so that what their own means still add is small.
    Of ``count`` rows, the sums of inputs ``(D,)``, of what the old
    weights leave over ``(C,)``, of inputs by inputs ``(D, D)`` and of inputs by leftovers
    ``(D, C)``, all float64. ``free``: whether a bias takes the means up.
    """

    free: bool
    count: int
    inputs: Tensor
    rest: Tensor
    gram: Tensor
    cross: Tensor

    @classmethod
    def of(cls, rows: Tensor, rest: Tensor, *, free: bool) -> _Normal:
        """From ``(n, D)`` inputs and ``(n, C)`` leftovers."""
        return cls(
            free,
            len(rows),
            rows.sum(0).double(),
            rest.sum(0).double(),
            (rows.T @ rows).double(),
            (rows.T @ rest).double(),
        )

    def __add__(self, other: _Normal) -> _Normal:
        """Of the rows of both."""
        sums = ("inputs", "rest", "gram", "cross")
        both: dict[str, Tensor] = {s: getattr(self, s) + getattr(other, s) for s in sums}
        return _Normal(self.free, self.count + other.count, **both)

    def solve(
        self, *ridges: float, dtype: torch.dtype = torch.float64
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """``(D, C)`` change and ``(C,)`` bias a ridge; with an infinite one only the bias is new.

        ``dtype``: in which equations are solved; float32 takes half the time, and is enough to
        tell ridges apart.
        """
        centre = self.inputs / self.count if self.free else torch.zeros_like(self.inputs)
        rest = self.rest / self.count if self.free else torch.zeros_like(self.rest)
        gram = self.gram - self.count * torch.outer(centre, centre)
        cross = (self.cross - self.count * torch.outer(centre, rest)).to(dtype)
        level = float(gram.diagonal().mean())
        gram = gram.to(dtype)
        before = 0.0
        for ridge in ridges:
            change = torch.zeros_like(cross)
            if ridge < math.inf:
                added = level * ridge + 1e-12
                gram.diagonal().add_(added - before)
                before = added
                change = torch.cholesky_solve(cross, torch.linalg.cholesky(gram))
            yield change.float(), (rest - centre @ change.double()).float()


def _fit_plain(conv: nn.Conv2d, rows: Tensor, wanted: Tensor, held_out: int) -> None:
    """Weights that map ``(n, D)`` inputs onto ``(n, C)`` wanted outputs, near the old ones.

    The last ``held_out`` rows come from other tiles than the rest; they choose the ridge. What the
    rows tell is summed up once, in two parts.
    """
    old, seen, free = conv.weight.flatten(1).T, len(rows) - held_out, conv.bias is not None
    centre, goal = _centres(conv, rows, wanted)
    rows = rows - centre
    rest = wanted - goal - rows @ old
    fitted = _Normal.of(rows[:seen], rest[:seen], free=free)
    ridge = _choose_ridge(fitted, rows[seen:], rest[seen:])
    whole = fitted + _Normal.of(rows[seen:], rest[seen:], free=free)
    ((change, bias),) = whole.solve(ridge)
    new = old + change
    conv.weight.copy_(new.T.reshape(conv.weight.shape))
    if conv.bias is not None:
        conv.bias.copy_(bias + goal - centre @ new)


def _choose_ridge(
    fitted: _Normal, unseen: Tensor, rest: Tensor, dtype: torch.dtype = torch.float32
) -> float:
    """The ridge that comes nearest on unseen rows; infinite where the old weights do."""
    best, least = math.inf, math.inf
    try:
        for ridge, (change, bias) in zip(RIDGES, fitted.solve(*RIDGES, dtype=dtype), strict=True):
            error = float((unseen @ change + bias - rest).pow(2).mean())
            if error < least:
                best, least = ridge, error
    except torch.linalg.LinAlgError:
        if dtype == torch.float64:
            raise
        return _choose_ridge(fitted, unseen, rest, torch.float64)
    return best


def _fit_depthwise(conv: nn.Conv2d, rows: Tensor, wanted: Tensor) -> None:
    """The same, channel by channel: ``(n, C, kh, kw)`` inputs onto ``(n, C)`` outputs."""
    rows = rows.flatten(2).transpose(0, 1)  # C, n, k
    old = conv.weight.flatten(1)[..., None]  # C, k, 1
    goal = wanted.mean(0) if conv.bias is not None else torch.zeros(())
    centre = rows.mean(1, keepdim=True) if conv.bias is not None else torch.zeros(())
    rows = rows - centre
    rest = (wanted - goal).T[..., None] - rows @ old
    gram = (rows.transpose(1, 2) @ rows).double()
    level = gram.diagonal(dim1=1, dim2=2).mean(1) * DEPTHWISE_RIDGE + 1e-12
    gram = gram + level[:, None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype)
    new = (old + torch.linalg.solve(gram, (rows.transpose(1, 2) @ rest).double())).float()
    conv.weight.copy_(new.reshape(conv.weight.shape))
    if conv.bias is not None:
        conv.bias.copy_(goal - (centre @ new).flatten())


def _centres(conv: nn.Conv2d, rows: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Means that the bias takes up; zeros where there is no bias."""
    if conv.bias is None:
        return torch.zeros(rows.shape[1]), torch.zeros(wanted.shape[1])
    return rows.mean(0), wanted.mean(0)
