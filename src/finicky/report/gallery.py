"""Pictures that show why a filter stayed and why another went: responses over photo and mask.

They are made while the photos are at hand and kept in the run folder, so that a report can be
written anew elsewhere. What was kept is looked up when the report is written, because another
choice may be made in the same run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from finicky.backbones import Backbone
from finicky.classes import ClassTable, MaskClass
from finicky.data.pairs import Pair, load_pair
from finicky.errors import DataError
from finicky.files import read_json, write_bytes, write_json
from finicky.images import printable
from finicky.importance import find_taps, listening
from finicky.masks import target_mask
from finicky.progress import Progress, silent
from finicky.report.pictures import SIDE, busiest_crop, jpeg, plain, with_outline, with_response

T = TypeVar("T")

GALLERY = "gallery"
CARD = "gallery.json"
_FORMAT, _VERSION = "finicky-gallery", 1
# Of the area of the photos shown, in [0, 1].
SEEN_SHARE = 0.04
# Photos are looked at for their marks until so many were opened; they may be large.
_LOOKED_AT = 24


@dataclass(frozen=True)
class GalleryOptions:
    """How much is shown: ``layers`` spread over the depth, the ``filters`` best and worst of each,
    on ``photos`` photos."""

    layers: int = 3
    filters: int = 3
    photos: int = 3


@dataclass(frozen=True)
class PhotoShown:
    """File names of a crop, and of the crop with its marks outlined."""

    key: str
    photo: str
    marked: str


@dataclass(frozen=True)
class FilterShown:
    """One filter: ``rank`` 1 is the best of its layer; a file name a photo."""

    channel: int
    importance: float
    rank: int
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class LayerShown:
    """One convolution, the ``number``-th of ``of`` in forward order."""

    name: str
    number: int
    of: int
    channels: int
    best: tuple[FilterShown, ...]
    worst: tuple[FilterShown, ...]


@dataclass(frozen=True)
class Gallery:
    """What lies in ``gallery/`` of a run folder."""

    photos: tuple[PhotoShown, ...]
    layers: tuple[LayerShown, ...]

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """A folder's gallery; ``None`` where there is none, a `DataError` where it is damaged."""
        path = folder / CARD
        if not path.is_file():
            return None
        value = read_json(path)
        try:
            if (value["format"], value["version"]) != (_FORMAT, _VERSION):
                raise ValueError(f"format {value['format']}, version {value['version']}")
            photos = tuple(PhotoShown(**photo) for photo in value["photos"])
            layers = tuple(_layer(layer) for layer in value["layers"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{printable(path)} is no gallery of this version ({error}): remove the folder "
                f"{GALLERY}, or run the sweep again"
            ) from error
        return cls(photos, layers)


@dataclass(frozen=True)
class _Crop:
    key: str
    photo: np.ndarray
    marked: np.ndarray

    @property
    def share(self) -> float:
        return float(self.marked.mean())


def write_gallery(
    backbone: Backbone,
    pairs: Sequence[Pair],
    scores: Mapping[str, np.ndarray],
    folder: Path,
    *,
    classes: ClassTable,
    targets: Sequence[MaskClass],
    options: GalleryOptions = GalleryOptions(),
    progress: Progress = silent,
) -> Gallery | None:
    """Draw the best and the worst filters of a few layers over a few photos.

    The same arguments give the same files. Filters that answer nowhere on these photos are left
    out, and among the worst those that answer on less than `SEEN_SHARE` of the area: their
    pictures would be empty.

    Args:
        backbone: Unpruned.
        pairs: Photos that filters were scored on, with their masks.
        scores: Importance by convolution of ``backbone``, ``(C,)`` each, higher = keep.
        folder: Where the JPEG files and, last, ``gallery.json`` go; made if it is not there.
        classes: What the numbers in the masks mean.
        targets: The classes that count as evidence.
        options: How much is shown.
        progress: Told of each layer.

    Returns:
        What was drawn; ``None``, and no file, where no photo holds a target or no layer is scored.
    """
    crops = _choose_crops(pairs, classes, targets, options.photos, backbone.min_size)
    names = _spread(list(scores), options.layers)
    if not crops or not names:
        return None
    maps = _responses(backbone, names, [crop.photo for crop in crops])
    photos = tuple(_draw_photo(folder, n, crop) for n, crop in enumerate(crops, start=1))
    layers = []
    for done, name in enumerate(names, start=1):
        progress("gallery", done - 1, len(names))
        drawn = _Drawn(folder, f"layer-{done}", maps[name], crops)
        layers.append(drawn.layer(name, list(scores), scores[name], options.filters))
        progress("gallery", done, len(names))
    gallery = Gallery(photos, tuple(layers))
    write_json(folder / CARD, {"format": _FORMAT, "version": _VERSION, **asdict(gallery)})
    return gallery


def pick_filters(
    importance: np.ndarray, answering: np.ndarray, number: int
) -> tuple[list[int], list[int]]:
    """The ``number`` best and worst channels, each list best first, none in both.

    Args:
        importance: ``(C,)``, NaN = unknown: such a channel is never picked.
        answering: ``(C,)`` share of the photos' area where a channel answers, in [0, 1].
        number: Of each at most.
    """
    known = np.flatnonzero((answering > 0) & ~np.isnan(importance)).tolist()
    best = sorted(known, key=lambda c: (-importance[c], c))[: min(number, (len(known) + 1) // 2)]
    rest = [c for c in known if c not in best and answering[c] >= SEEN_SHARE]
    return best, sorted(rest, key=lambda c: (importance[c], c))[:number][::-1]


@dataclass(frozen=True)
class _Drawn:
    """One layer's responses, ``(C, h, w)`` for each crop, on their way to ``folder``."""

    folder: Path
    prefix: str
    maps: Sequence[Tensor]
    crops: Sequence[_Crop]

    def layer(self, name: str, names: list[str], importance: np.ndarray, number: int) -> LayerShown:
        areas = torch.stack([(maps > 0).float().mean((1, 2)) for maps in self.maps])
        best, worst = pick_filters(importance, areas.mean(0).numpy(), number)
        return LayerShown(
            name=name,
            number=names.index(name) + 1,
            of=len(names),
            channels=len(importance),
            best=tuple(self._filter(c, importance) for c in best),
            worst=tuple(self._filter(c, importance) for c in worst),
        )

    def _filter(self, channel: int, importance: np.ndarray) -> FilterShown:
        enlarged = [_enlarge(maps[channel]) for maps in self.maps]
        # One scale for all photos of a filter: what it always answers is no answer, and its
        # strongest specks may saturate.
        usual, strong = (float(q) for q in np.quantile(np.stack(enlarged), (0.5, 0.998)))
        reach = max(strong - usual, 1e-12)
        files = []
        for number, (crop, response) in enumerate(zip(self.crops, enlarged, strict=True), start=1):
            file = f"{self.prefix}-filter-{channel}-photo-{number}.jpg"
            picture = with_response(plain(crop.photo), (response - usual) / reach)
            write_bytes(self.folder / file, jpeg(with_outline(picture, crop.marked)))
            files.append(file)
        # NaN is unknown and ranks last, as in a plan.
        rank = 1 + int(np.sum(importance > importance[channel]))
        return FilterShown(channel, float(importance[channel]), rank, tuple(files))


def _choose_crops(
    pairs: Sequence[Pair],
    classes: ClassTable,
    targets: Sequence[MaskClass],
    number: int,
    min_size: int,
) -> list[_Crop]:
    """Crops with little, medium and much target, the middle of equal parts, much first."""
    crops = []
    for pair in _spread(sorted(pairs, key=lambda p: p.key), _LOOKED_AT):
        photo, ids = load_pair(pair, classes)
        crop = _Crop(pair.key, *busiest_crop(photo, target_mask(ids, targets)))
        if crop.share > 0 and len(crop.marked) >= min_size:
            crops.append(crop)
    return _spread(sorted(crops, key=lambda c: (-c.share, c.key)), number)


def _spread(items: Sequence[T], number: int) -> list[T]:
    """At most ``number`` items, the middles of that many equal parts."""
    number = min(number, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * number)] for i in range(number)]


def _responses(
    backbone: Backbone, names: Sequence[str], photos: Sequence[np.ndarray]
) -> dict[str, list[Tensor]]:
    """Each layer's map ``(C, h, w)`` for each photo."""
    taps = find_taps(backbone.module, max(64, backbone.min_size))
    found: dict[str, list[Tensor]] = {name: [] for name in names}

    def receive(name: str, maps: Tensor) -> None:
        found[name].append(maps[0].clone())

    wanted = {name: taps[name] for name in names}
    with torch.inference_mode(), listening(wanted, receive) as begin:
        for photo in photos:
            begin()
            backbone.module(backbone.preprocessing(torch.from_numpy(photo[None])))
    return found


def _enlarge(response: Tensor) -> np.ndarray:
    grown = F.interpolate(response[None, None].float(), (SIDE, SIDE), mode="bilinear")
    return grown[0, 0].clamp(min=0).numpy()


def _draw_photo(folder: Path, number: int, crop: _Crop) -> PhotoShown:
    picture = plain(crop.photo)
    shown = PhotoShown(crop.key, f"photo-{number}.jpg", f"photo-{number}-marked.jpg")
    write_bytes(folder / shown.photo, jpeg(picture))
    write_bytes(folder / shown.marked, jpeg(with_outline(picture, crop.marked)))
    return shown


def _layer(value: Mapping[str, Any]) -> LayerShown:
    best, worst = (
        tuple(FilterShown(**{**f, "pictures": tuple(f["pictures"])}) for f in value[side])
        for side in ("best", "worst")
    )
    return LayerShown(**{**value, "best": best, "worst": worst})
