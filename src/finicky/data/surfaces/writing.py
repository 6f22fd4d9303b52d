"""A folder of surfaces that works as a project: photos beside their masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from finicky.classes import DEFAULT_CLASSES
from finicky.data.surfaces.style import SurfaceStyle
from finicky.data.surfaces.surface import Surface, make_surface
from finicky.errors import UsageError
from finicky.files import atomic_path
from finicky.masks import write_mask
from finicky.progress import Progress, silent

_MOST = 1_000_000
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class SurfaceSet:
    """What `write_surfaces` wrote, one entry a surface in every tuple.

    Attributes:
        folder: The project folder.
        photos: Paths of the photos.
        masks: Paths of their masks.
        seeds: What to give `make_surface` for the same surface.
        has_crack: Whether the mask holds a crack.
    """

    folder: Path
    photos: tuple[Path, ...]
    masks: tuple[Path, ...]
    seeds: tuple[int, ...]
    has_crack: tuple[bool, ...]


def write_surfaces(
    out: Path,
    count: int,
    *,
    seed: int = 0,
    width: int = 480,
    height: int = 320,
    style: SurfaceStyle | None = None,
    progress: Progress = silent,
) -> SurfaceSet:
    """Write ``count`` surfaces as ``photos/0000.jpg``, ... and ``masks/0000.jpg.png``, ...

    Photo number n is ``make_surface(seed * 1_000_000 + n)``, saved as JPEG; sets of different
    seeds share no surface, and a longer set begins with the shorter one.

    Args:
        out: Project folder; made where it does not exist.
        count: Number of surfaces, 1 to 1 000 000.
        seed: 0 or more.
        width: Photo width in px, at least 32.
        height: Photo height in px, at least 32.
        style: Ranges to draw from; the defaults of `SurfaceStyle` where None.
        progress: Told about every surface.

    Raises:
        UsageError: An argument is out of range, or ``out`` already holds photos or masks.
        DataError: A file could not be written.
    """
    out = Path(out)
    if not 1 <= count <= _MOST:
        raise UsageError(f"count must be 1 to {_MOST}, got {count}")
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}")
    _refuse_filled(out)
    photos, masks, seeds, cracked = [], [], [], []
    for number in range(count):
        surface = make_surface(seed * _MOST + number, width=width, height=height, style=style)
        photo = out / "photos" / f"{number:04d}.jpg"
        mask = out / "masks" / f"{photo.name}.png"
        _write(surface, photo, mask)
        photos.append(photo)
        masks.append(mask)
        seeds.append(surface.seed)
        cracked.append(surface.has_crack)
        progress("surfaces", number + 1, count)
    return SurfaceSet(out, tuple(photos), tuple(masks), tuple(seeds), tuple(cracked))


def _write(surface: Surface, photo: Path, mask: Path) -> None:
    write_mask(mask, surface.mask, DEFAULT_CLASSES)
    with atomic_path(photo) as temporary:
        Image.fromarray(surface.photo).save(temporary, format="JPEG", quality=_JPEG_QUALITY)


def _refuse_filled(out: Path) -> None:
    for folder in (out / "photos", out / "masks"):
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} already holds files, and photos are never overwritten. "
                "Choose an empty folder."
            )
