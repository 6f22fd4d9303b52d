"""The one image reader: every photo becomes upright 8-bit RGB here, or an `ImageError`.

Pillow decodes. Six formats are allowed; the size is checked from the header before a pixel is
decoded; a file counts as readable only when all of it decodes.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# The plugins are imported by name: `Image.open` would otherwise load every format it knows.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from finicky.errors import DataError, FinickyError, ImageError, UsageError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"}
)
MAX_PIXELS = 50_000_000
# Of photos that somebody labels, and of their masks: they are the user's own.
MAX_LABELLED_PIXELS = 120_000_000

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
_TAKE_OUT = "take it out of the folder"
_SAVE_AGAIN = ("save it as JPEG, PNG, TIFF, WebP or BMP", _TAKE_OUT)
_COPY_AGAIN = ("copy it again from its source", _TAKE_OUT)
_CUT = ("cut it into smaller images", "raise max_pixels if you trust the file")
_ORIENTATION_TAG = 0x0112
# EXIF 2.32, tag 0x0112: what must be done to a stored image so that it stands upright.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
# Rows that are converted at a time: whole copies of a 50-megapixel image take 200 MB each.
_STRIP = 256
_PNG_METADATA = {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}
_NOT_IMAGES = (
    (b"version https://git-lfs", "it is a Git LFS pointer, not the image", ("run `git lfs pull`",)),
    (b"<!doctype", "it is a web page, not an image", ("download the image itself",)),
    (b"<html", "it is a web page, not an image", ("download the image itself",)),
    (b"<svg", "it is an SVG drawing", _SAVE_AGAIN),
    (b"<?xml", "it is an XML file", _SAVE_AGAIN),
)


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """One image file as upright 8-bit RGB.

    The EXIF orientation is applied; values outside 1 to 8 count as 1. Of animations and files of
    many pages the first is read. Transparency is composed on white. Colour profiles are not
    applied. Colour of 16 bits a channel keeps the high byte.

    Grey of more than 8 bits is scaled so that white is the largest value of the smallest common
    bit depth (8, 10, 12, 14 or 16) that holds the brightest pixel; a full-range 16-bit image is
    thus divided by 257. Float images within [0, 1] are multiplied by 255. Other integer or float
    values (negative, or above 65535) are stretched from their minimum to their maximum.

    Args:
        path: JPEG, PNG, TIFF, WebP, BMP or GIF; the content decides, not the suffix.
        max_pixels: Largest width x height that is decoded, checked from the header. Pillow's own
            ceiling (about 179 million) stays in force above it.

    Returns:
        ``(H, W, 3)`` uint8, C-contiguous, writable.

    Raises:
        ImageError: The file is missing, not a regular file, of another format, too large,
            truncated or damaged; the message names it, the reason and a remedy.
    """
    with opened_image(path, max_pixels=max_pixels) as image:
        image.load()
        return np.ascontiguousarray(upright(image, _as_rgb(image)))


def image_size(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """``(width, height)`` in px of the upright image, from the header.

    Raises:
        ImageError: As `read_image`, except that damage behind the header goes unseen.
    """
    with opened_image(path, max_pixels=max_pixels) as image:
        width, height = image.size
        # A TIFF already reports its size upright.
        turned = image.format != "TIFF" and orientation(image) >= 5
        return (height, width) if turned else (width, height)


def list_images(folder: Path, *, allow_empty: bool = False) -> list[Path]:
    """The image files under ``folder``, by suffix, at any depth.

    Sorted by relative path with ``/`` in code-point order, the same on every platform. Hidden
    names (``.x``, ``._x``), ``Thumbs.db`` and other suffixes are skipped; so are links to folders
    and links that are broken, loop or lead out of ``folder``.

    Raises:
        UsageError: ``folder`` is not a folder.
        DataError: A folder cannot be listed, or no image was found and ``allow_empty`` is false.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(
            f"{printable(folder)} is not a folder; give the path of a folder with images."
        )
    root = folder.resolve()
    found = [path for path in _walk(folder) if _is_listed(path, root)]
    if not found and not allow_empty:
        raise DataError(
            f"no image in {printable(folder)} or below it: looked for files ending in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def resize_image(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
    """``rgb`` at another size: the one resize that is used everywhere.

    Pillow's bilinear filter, whose support grows with the reduction, so that it averages over
    all source pixels (antialiasing). The aspect ratio is the caller's business.

    Args:
        rgb: ``(H, W, 3)`` uint8.
        width: New width in px, at least 1.
        height: New height in px, at least 1.

    Returns:
        ``(height, width, 3)`` uint8; a copy also where the size does not change.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise UsageError(f"expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    if width < 1 or height < 1:
        raise UsageError(f"width and height must be at least 1 px, got {width} and {height}")
    return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR))


@contextmanager
def opened_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Yield the Pillow image of a file, not yet decoded; whatever fails inside is an `ImageError`.

    For the readers of photos and masks; everything else calls those.
    """
    path = Path(path)
    try:
        _refuse_special(path)
        with (
            _PILLOW_QUIET,
            path.open("rb") as stream,
            Image.open(stream, formats=_FORMATS) as image,
        ):
            _refuse_large(path, image.size, max_pixels)
            yield image
    except FinickyError:
        raise
    except UnidentifiedImageError as error:
        raise _refused(path, *_unidentified(path)) from error
    except Image.DecompressionBombError as error:
        raise _refused(path, "it has more pixels than Pillow decodes", _CUT[:1]) from error
    except MemoryError as error:
        raise _refused(path, "there is not enough memory to decode it", _CUT) from error
    except OSError as error:
        if error.filename is not None:  # the system refused, not the decoder
            remedy = ("check the path and its rights",)
            raise _refused(path, str(error.strerror), remedy) from error
        raise _refused(path, _damage(error), _COPY_AGAIN) from error
    except Exception as error:  # Pillow raises nine kinds of exception on damaged files
        raise _refused(path, _damage(error), _COPY_AGAIN) from error


def upright(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """``values``, the pixels of a decoded image, turned by its EXIF orientation; a view.

    A TIFF is turned by Pillow as it is decoded and then has no orientation any more.
    """
    turn = _UPRIGHT.get(orientation(image))
    return values if turn is None else turn(values)


def printable(path: Path) -> str:
    """A path for one line of a message: as it is, or quoted with escapes where it would break."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; anything else counts as 1."""
    try:
        # PNG's own getexif() decodes the whole image in case metadata follows the pixels.
        early = image.format == "PNG" and not _has_late_metadata(image)
        exif = Image.Image.getexif(image) if early else image.getexif()
        value = exif.get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata must not cost the photo
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _has_late_metadata(image: Image.Image) -> bool:
    """Whether a PNG holds chunks behind its pixels that may give an orientation."""
    stream = getattr(image, "fp", None)
    if stream is None:  # already decoded
        return False
    start, seen_pixels, chunk = stream.tell(), False, b""
    stream.seek(8)
    while len(head := stream.read(8)) == 8 and chunk != b"IEND":
        length, chunk = int.from_bytes(head[:4], "big"), head[4:]
        if seen_pixels and chunk in _PNG_METADATA:
            break
        seen_pixels |= chunk == b"IDAT"
        stream.seek(length + 4, os.SEEK_CUR)
    stream.seek(start)
    return seen_pixels and chunk in _PNG_METADATA


def _as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(eight_bits(image)[..., None], 3, axis=2)
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        strip = image.crop((0, top, width, min(top + _STRIP, height)))
        rgb[top : top + _STRIP] = np.asarray(strip_as_rgb(strip))
    return rgb


def strip_as_rgb(strip: Image.Image) -> Image.Image:
    """Part of a decoded image as RGB, transparency on white; not for more than 8 bits."""
    if strip.mode == "LAB":
        return _lab_to_rgb(strip)
    if strip.has_transparency_data:
        layer = strip.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return strip.convert("RGB")


def eight_bits(image: Image.Image) -> np.ndarray:
    """A decoded image of integers or floats as ``(H, W)`` uint8, scaled as `read_image` says."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinite values")
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        black, white = 0.0, 1.0
    elif low >= 0 and high <= 65535:
        black, white = 0.0, next(2.0**b - 1 for b in (8, 10, 12, 14, 16) if high <= 2.0**b - 1)
    else:
        black, white = low, max(high, low + 1)
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _STRIP):
        strip = values[top : top + _STRIP].astype(np.float64)
        grey[top : top + _STRIP] = np.rint((strip - black) * (255.0 / (white - black)))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return grey


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # None only for in-place conversion
    return converted


def _refuse_special(path: Path) -> None:
    """A FIFO would hang the reader and a device never end, so only regular files are opened."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise _refused(path, "it is not a regular file", (_TAKE_OUT,))
    if info.st_size == 0:
        raise _refused(path, "it is empty", _COPY_AGAIN)


def _refuse_large(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _refused(
            path,
            f"it has {width}x{height} = {width * height} pixels, more than {max_pixels}",
            _CUT,
        )


def _unidentified(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        with path.open("rb") as stream:
            start = stream.read(64).lstrip().lower()
    except OSError as error:
        return str(error.strerror), _SAVE_AGAIN
    if start[4:8] == b"ftyp":
        return "it is a HEIC or AVIF image", ("save it as JPEG", "set the camera to JPEG")
    for prefix, reason, remedies in _NOT_IMAGES:
        if start.startswith(prefix):
            return reason, remedies
    return "it is not a readable JPEG, PNG, TIFF, WebP, BMP or GIF image", _SAVE_AGAIN


def _damage(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"it is damaged ({text[:160]})"


def _refused(path: Path, reason: str, remedies: tuple[str, ...]) -> ImageError:
    return ImageError(f"cannot read {printable(path)}", reason, *remedies)


def _walk(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise DataError(
            f"cannot list {printable(Path(error.filename))}: {error.strerror}. Check its rights."
        ) from error

    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            yield Path(parent, name)


def _is_listed(path: Path, root: Path) -> bool:
    if path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    if not path.is_symlink():
        return True
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # broken, or a loop (RuntimeError before Python 3.13)
        return False


class _QuietWarnings:
    """Silence Pillow's warnings while any thread reads.

    `warnings.catch_warnings` alone restores the wrong filters when two threads overlap, so the
    first reader in sets the filter and the last one out takes it away. Every warned-of fault that
    matters is refused by the reader itself: size from the header, damage by decoding.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._context = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._context = warnings.catch_warnings()
                self._context.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._context.__exit__(None, None, None)


_PILLOW_QUIET = _QuietWarnings()
