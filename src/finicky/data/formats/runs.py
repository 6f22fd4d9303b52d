"""Masks as runs: COCO's, CVAT's and Label Studio's encodings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from finicky.errors import DataError


def run_lengths(flat: np.ndarray) -> list[int]:
    """Lengths of the runs of a flat bool array, the first of which counts False (maybe 0)."""
    values = np.asarray(flat, bool).ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    lengths = np.diff(np.r_[0, edges, values.size]).tolist()
    return [0, *lengths] if values.size and values[0] else lengths


def from_run_lengths(lengths: Sequence[int], size: int) -> np.ndarray:
    """The inverse of `run_lengths`: ``(size,)`` bool.

    Raises:
        DataError: The runs do not add up to ``size``.
    """
    counts = np.asarray(lengths, np.int64)
    if counts.size and (counts.min() < 0 or int(counts.sum()) != size):
        raise DataError(f"the runs of a mask add up to {int(counts.sum())} px instead of {size}")
    return np.repeat(np.arange(counts.size) % 2 == 1, counts)


def coco_counts(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed runs of an ``(H, W)`` mask: down the columns, zeros first."""
    return run_lengths(mask.ravel(order="F"))


def coco_string(counts: Sequence[int]) -> str:
    """COCO's compressed form: differences to the run before the last, 5 bits a character."""
    out = []
    for index, count in enumerate(counts):
        value = count - (counts[index - 2] if index > 2 else 0)
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            out.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(out)


def from_coco_string(text: str) -> list[int]:
    """The inverse of `coco_string`.

    Raises:
        DataError: The text is damaged.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise DataError("a compressed COCO mask is damaged")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    return counts


def coco_mask(segmentation: dict, height: int, width: int) -> np.ndarray:
    """``(height, width)`` bool of COCO's run segmentation, compressed or not."""
    if list(segmentation.get("size", [])) != [height, width]:
        raise DataError(
            f"a COCO mask is of size {segmentation.get('size')} instead of {[height, width]}"
        )
    counts = segmentation["counts"]
    lengths = from_coco_string(counts) if isinstance(counts, str) else counts
    return from_run_lengths(lengths, height * width).reshape((height, width), order="F")


# Label Studio keeps brush strokes as thi.ng's rle-pack of RGBA bytes: length in words (32 bits),
# word size - 1 (5 bits), four sizes of run lengths - 1 (4 bits each); then packets of a flag (1:
# one word repeated), which of the four sizes, the length - 1, and the word or words.
_SIZES = (3, 4, 8, 16)
_CHANNELS = 4


def brush_bytes(mask: np.ndarray) -> list[int]:
    """Label Studio's runs of an ``(H, W)`` mask, as a list of bytes."""
    bits = [f"{mask.size * _CHANNELS:032b}{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    value = False
    for length in run_lengths(mask):
        bits += _packets(length * _CHANNELS, "11111111" if value else "00000000")
        value = not value
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _packets(length: int, word: str) -> Iterable[str]:
    while length:
        take = min(length, 1 << _SIZES[-1])
        which = next(i for i, size in enumerate(_SIZES) if take <= 1 << size)
        yield f"1{which:02b}{take - 1:0{_SIZES[which]}b}{word}"
        length -= take


def brush_mask(content: Sequence[int], height: int, width: int) -> np.ndarray:
    """``(height, width)`` bool of Label Studio's runs: where alpha is not 0.

    Raises:
        DataError: The bytes are damaged or of another size.
    """
    try:
        bits = "".join(f"{byte:08b}" for byte in bytes(content))
        words = _unpack(bits, height * width * _CHANNELS)
    except (ValueError, IndexError, TypeError) as error:
        raise DataError("a Label Studio brush mask is damaged") from error
    return words[_CHANNELS - 1 :: _CHANNELS].reshape(height, width) > 0


def _unpack(bits: str, expected: int) -> np.ndarray:
    if int(bits[:32], 2) != expected:
        raise DataError("a Label Studio brush mask is of another size than its photo")
    word = int(bits[32:37], 2) + 1
    sizes = [int(bits[37 + 4 * i : 41 + 4 * i], 2) + 1 for i in range(4)]
    out = np.zeros(expected, np.uint8)
    at, done = 53, 0
    while done < expected:
        size = sizes[int(bits[at + 1 : at + 3], 2)]
        repeated, end = bits[at] == "1", at + 3 + size
        length = int(bits[at + 3 : end], 2) + 1
        count = 1 if repeated else length
        values = [int(bits[end + i * word : end + (i + 1) * word], 2) for i in range(count)]
        out[done : done + length] = values[0] if repeated else values
        at, done = end + count * word, done + length
    return out
