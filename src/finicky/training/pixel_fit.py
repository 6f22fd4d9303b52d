"""Fitting pixel heads to the masks of training photos."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.backbones import Backbone
from finicky.errors import DataError
from finicky.importance.responses import Tap, find_taps, listening
from finicky.masks import IGNORE
from finicky.progress import Progress, silent
from finicky.training.head import LEAST_VARIATIONS
from finicky.training.pixel_head import PHOTO, PixelHead, contrast

BATCH = 16
ROWS = 4096


@dataclass(frozen=True)
class PixelSettings:
    """How a pixel head is trained.

    Attributes:
        tiles: Tiles drawn from the training photos at most.
        target_cells: Cells of a tile that the target covers, at most so many; fewer where responses
            are many, so that they take `most_bytes` at most.
        other_cells: Cells that it does not touch: half near a target, half anywhere.
        most_bytes: Of all responses that are remembered.
        near_px: How far "near" reaches, in px.
        hidden: K, how many numbers a cell has before the last weighing.
        steps: Of the optimiser.
        rows: Cells a step.
        learning_rate: Peak of a cosine that falls to 0.
        weight_decay: Of AdamW.
        seed: Of places, cells and weights.
    """

    tiles: int = 400
    target_cells: int = 16
    other_cells: int = 96
    most_bytes: int = 500_000_000
    near_px: int = 12
    hidden: int = 16
    steps: int = 400
    rows: int = 512
    learning_rate: float = 0.01
    weight_decay: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class CellSample:
    """Cells of one grid: what every tap answered there, and how much of each is target.

    Attributes:
        responses: For each tap ``(N, C)`` float32.
        shares: ``(N,)`` float32 in [0, 1].
    """

    responses: dict[str, np.ndarray]
    shares: np.ndarray


def sample_cells(
    backbone: Backbone,
    photos: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    size: int,
    taps: dict[str, int],
    wanted: Mapping[int, Collection[str]] | None = None,
    settings: PixelSettings = PixelSettings(),
    progress: Progress = silent,
) -> dict[int, CellSample]:
    """Run training tiles once and remember single cells, for every grid that the taps make.

    Args:
        backbone: Pruned or not.
        photos: ``(H, W, 3)`` uint8 RGB of any sizes.
        masks: ``(H, W)`` uint8 for each: 1 target, 255 not to be counted.
        size: Side of a tile in px.
        taps: Convolution → side of its map; see `stage_taps`.
        wanted: Taps to remember, by side of the grid; default: on each grid all that are no finer.
        settings: How many.
        progress: Told of each batch.

    Returns:
        By side of the grid; a grid's sample holds the photo and the taps that are no finer.

    Raises:
        DataError: No photo shows the target, or all of them show nothing else.
    """
    random = np.random.default_rng(settings.seed)
    tiles, marks = _draw_tiles(photos, masks, size, settings, random)
    if wanted is None:
        grids = sorted(set(taps.values()), reverse=True)
        wanted = {grid: [n for n, side in taps.items() if side <= grid] for grid in grids}
    places = {name: tap for name, tap in find_taps(backbone.module, size).items() if name in taps}
    settings = _fitting(backbone, places, wanted, settings, size, len(tiles))
    found: dict[int, list[tuple[dict[str, Tensor], Tensor]]] = {grid: [] for grid in wanted}
    for start in range(0, len(tiles), BATCH):
        part = slice(start, start + BATCH)
        drawn = {grid: _draw_cells(marks[part], grid, settings, random) for grid in wanted}
        answers: dict[int, dict[str, Tensor]] = {grid: {} for grid in wanted}

        def receive(name: str, response: Tensor) -> None:
            for grid, names in wanted.items():
                if name in names:  # a coarser tap than the grid is interpolated
                    tile, where, _ = drawn[grid]  # noqa: B023 – used before the next batch
                    answers[grid][name] = _at(response, tile, where, grid)  # noqa: B023

        with listening(places, receive) as begin, torch.inference_mode():
            begin()
            inputs = backbone.preprocessing(torch.from_numpy(tiles[part]))
            backbone.module(inputs)
            for grid in (grid for grid, names in wanted.items() if PHOTO in names):
                tile, where, _ = drawn[grid]
                answers[grid][PHOTO] = _at(contrast(inputs, grid), tile, where, grid)
        for grid in wanted:
            found[grid].append((answers[grid], drawn[grid][2]))
        progress("responses for the map", min(start + BATCH, len(tiles)), len(tiles))
    return {grid: _join(found.pop(grid)) for grid in wanted}


def _fitting(
    backbone: Backbone,
    places: Mapping[str, Tap],
    wanted: Mapping[int, Collection[str]],
    settings: PixelSettings,
    size: int,
    tiles: int,
) -> PixelSettings:
    """Settings with so few cells of a tile that what is remembered fits."""
    channels = {PHOTO: 0}

    def note(name: str, response: Tensor) -> None:
        channels[name] = response.shape[1]

    with listening(places, note) as begin, torch.inference_mode():
        begin()
        backbone.module(torch.zeros(1, 3, size, size))
    numbers = sum(channels[name] for names in wanted.values() for name in names)
    cells = settings.most_bytes / (4 * tiles * max(1, numbers))
    share = min(1.0, cells / (settings.target_cells + settings.other_cells))
    target, other = (math.ceil(n * share) for n in (settings.target_cells, settings.other_cells))
    return replace(settings, target_cells=target, other_cells=other)


def fit_pixel_head(
    sample: CellSample,
    taps: Sequence[str],
    *,
    size: int,
    cells: int,
    settings: PixelSettings = PixelSettings(),
) -> PixelHead:
    """Train a head on some of a sample's taps; seconds.

    Logistic loss against the share of a cell that is target. Responses are standardised, and the
    standardisation is folded into the weights.
    """
    parts = [torch.from_numpy(sample.responses[name]) for name in taps]
    mean, spread = (np.concatenate(each) for each in zip(*map(_moments, parts), strict=True))
    scale = np.maximum(spread, LEAST_VARIATIONS[0] * np.abs(mean))
    scale[scale == 0] = 1.0
    first, last = _optimise(parts, mean, scale, torch.from_numpy(sample.shares), settings)
    weight = first.weight.detach().double().numpy() / scale
    bias = first.bias.detach().double().numpy() - weight @ mean
    output, output_bias = last.weight.detach().numpy()[0], float(last.bias.detach()[0])
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    return PixelHead(
        taps=tuple(taps),
        weights=tuple(np.ascontiguousarray(w, np.float32) for w in np.split(weight, ends, axis=1)),
        bias=bias.astype(np.float32),
        output=output.copy(),
        output_bias=output_bias,
        size=size,
        cells=cells,
    )


def _moments(part: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, in float64, a few rows at a time."""
    total, squares = (torch.zeros(part.shape[1], dtype=torch.float64) for _ in range(2))
    for block in part.split(ROWS):
        total += block.double().sum(0)
    mean = total / len(part)
    for block in part.split(ROWS):
        squares += (block.double() - mean).square_().sum(0)
    return mean.numpy(), (squares / len(part)).sqrt().numpy()


def _optimise(
    parts: Sequence[Tensor],
    mean: np.ndarray,
    scale: np.ndarray,
    y: Tensor,
    settings: PixelSettings,
) -> tuple[nn.Linear, nn.Linear]:
    """Both layers on standardised responses, which are made for a few rows at a time."""
    shift, factor = (torch.from_numpy(v.astype(np.float32)) for v in (mean, 1 / scale))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        first, last = nn.Linear(len(mean), settings.hidden), nn.Linear(settings.hidden, 1)
        optimizer = torch.optim.AdamW(
            [*first.parameters(), *last.parameters()],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        for _ in range(settings.steps):
            rows = torch.randint(len(y), (min(settings.rows, len(y)),))
            x = torch.cat([part[rows] for part in parts], 1).sub_(shift).mul_(factor)
            logits = last(torch.relu(first(x)))[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return first, last


def _draw_tiles(
    photos: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    size: int,
    settings: PixelSettings,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Tiles and their masks; half of the tiles of a photo with a target lie on a target."""
    usable = [i for i, mask in enumerate(masks) if min(mask.shape) >= size]
    if not usable or not any((masks[i] == 1).any() for i in usable):
        raise DataError(f"no training photo of at least {size} px shows the target")
    each = -(-settings.tiles // len(usable))
    tiles, marks = [], []
    for i in usable:
        mask = masks[i]
        on_target = np.argwhere(mask == 1)
        for number in range(min(each, 16)):
            y, x = (random.integers(0, side - size + 1) for side in mask.shape)
            if len(on_target) and number % 2 == 0:
                centre = on_target[random.integers(len(on_target))]
                shift = random.integers(-size // 3, size // 3 + 1, 2)
                y, x = np.clip(centre + shift - size // 2, 0, np.array(mask.shape) - size)
            part = slice(y, y + size), slice(x, x + size)
            tiles.append(photos[i][part])
            marks.append(mask[part])
    order = random.permutation(len(tiles))[: settings.tiles]
    return np.stack(tiles)[order], np.stack(marks)[order]


def _draw_cells(
    marks: np.ndarray, grid: int, settings: PixelSettings, random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Tile number, flat place in the grid and share of target, one row a cell."""
    maps = torch.from_numpy(np.stack([marks == 1, marks == IGNORE], 1).astype(np.float32))
    share, ignored = F.interpolate(maps, (grid, grid), mode="area").unbind(1)
    reach = max(1, round(settings.near_px * grid / marks.shape[1]))
    wide = F.max_pool2d(share[:, None], 2 * reach + 1, 1, reach)[:, 0]
    rim = F.max_pool2d(share[:, None], 3, 1, 1)[:, 0]  # where hands are not sure
    free = ignored == 0
    kinds = (
        ((share > 0) & free, settings.target_cells),
        ((rim == 0) & (wide > 0) & free, settings.other_cells // 2),
        ((rim == 0) & free, settings.other_cells // 2),
    )
    rows, where = [], []
    for tile in range(len(marks)):
        for kind, most in kinds:
            places = np.flatnonzero(kind[tile].numpy())
            places = random.permutation(places)[:most]
            rows.append(np.full(len(places), tile))
            where.append(places)
    tiles, cells = (torch.from_numpy(np.concatenate(part)) for part in (rows, where))
    return tiles, cells, share.flatten(1)[tiles, cells]


def _at(response: Tensor, tiles: Tensor, where: Tensor, grid: int) -> Tensor:
    """Responses ``(N, C, h, w)`` at cells of a finer or equal grid, interpolated: ``(P, C)``."""
    side = response.shape[2]
    if side == grid:
        return response.flatten(2)[tiles, :, where].clone()
    # The same numbers as F.interpolate(mode="bilinear") of the whole map.
    y, x = where // grid, where % grid
    total = response.new_zeros(len(where), response.shape[1])
    for row, a in _neighbours(y, grid, side):
        for column, b in _neighbours(x, grid, side):
            total = total + response[tiles, :, row, column] * (a * b)[:, None]
    return total


def _neighbours(cell: Tensor, grid: int, side: int) -> list[tuple[Tensor, Tensor]]:
    centre = ((cell.float() + 0.5) * (side / grid) - 0.5).clamp(0, side - 1)
    first = centre.floor().long()
    second = (first + 1).clamp(max=side - 1)
    share = centre - first
    return [(first, 1 - share), (second, share)]


def _join(parts: list[tuple[dict[str, Tensor], Tensor]]) -> CellSample:
    # One name after the other, so that not all of it is there twice.
    names = list(parts[0][0])
    responses = {name: torch.cat([part.pop(name) for part, _ in parts]).numpy() for name in names}
    return CellSample(responses, torch.cat([shares for _, shares in parts]).numpy())
