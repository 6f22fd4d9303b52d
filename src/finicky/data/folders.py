"""Class folders: one folder of images for each class, and which split each image is in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from finicky.data.splits import (
    SPLITS,
    Assignment,
    Split,
    carve_validation,
    image_key,
    read_split_csv,
    split_groups,
)
from finicky.data.tile_folder import TABLE, read_table
from finicky.errors import DataError, UsageError
from finicky.images import list_images, printable

# Folder names of splits as other tools write them.
_SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Sample:
    """One image of a class; ``group`` names the photograph, or near duplicates, it came from."""

    path: Path
    label: str
    group: str
    split: Split


@dataclass(frozen=True)
class SampleTable:
    """The samples of class folders, in order of their relative paths."""

    samples: tuple[Sample, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return tuple(sorted({sample.label for sample in self.samples}))

    def counts(self) -> tuple[tuple[Split, str, int], ...]:
        """How many samples each split has of each class: ``(split, class, number)``."""
        number = Counter((sample.split, sample.label) for sample in self.samples)
        present = {sample.split for sample in self.samples}
        return tuple(
            (split, label, number[split, label])
            for split in SPLITS
            if split in present
            for label in self.classes
        )


def read_class_folders(
    root: Path,
    *,
    split_file: Path | None = None,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> SampleTable:
    """The images of class folders, by name only; nothing is opened.

    Two layouts are understood:

    - ``root/{train,validation,test}/{class}/...``, as `finicky.data.tiles.cut_tiles` writes it.
      ``val`` and ``valid`` count as validation; without it, a quarter of the training groups
      becomes validation; a missing ``test`` stays missing. A ``tiles.csv`` in ``root`` gives the
      groups, else each image is its own.
    - ``root/{class}/...``. ``split_file`` (or ``root/split.csv``) gives split and group of every
      image by its path relative to ``root``; a quarter of its training groups becomes validation
      where it has none. Without the file each image is its own group and ``fractions`` apply.

    Images that lie directly in ``root`` belong to no class and are no samples.

    Args:
        root: The folder.
        split_file: See `finicky.data.splits.read_split_csv`; only for the second layout.
        seed: Of every division.
        fractions: Shares of train, validation and test of the groups, for each class.

    Raises:
        UsageError: ``root`` is not a folder, or has splits already and ``split_file`` is given.
        DataError: Fewer than two classes, a class without images, or a table that does not fit.
    """
    root = Path(root)
    folders = _subfolders(root)
    divided = [folder for folder in folders if folder.name in _SPLIT_FOLDERS]
    if any(folder.name == "train" for folder in divided) and len(divided) == len(folders):
        if split_file is not None:
            raise UsageError(
                f"{printable(root)} is divided into split folders already; leave out the split "
                "file, or give a folder of class folders."
            )
        return _divided(root, divided, seed)
    return _undivided(root, folders, split_file, seed, fractions)


def _divided(root: Path, folders: list[Path], seed: int) -> SampleTable:
    labels: dict[Path, str] = {}
    splits: dict[Path, Split] = {}
    for folder in folders:
        inside = _labels(root, _subfolders(folder))
        labels |= inside
        splits |= dict.fromkeys(inside, _SPLIT_FOLDERS[folder.name])
    groups = _tile_groups(root, list(labels))
    assignments = {_key(root, path): (splits[path], groups[path]) for path in labels}
    by_key = {_key(root, path): label for path, label in labels.items()}
    return _table(root, labels, carve_validation(assignments, seed=seed, labels=by_key))


def _undivided(
    root: Path,
    folders: list[Path],
    split_file: Path | None,
    seed: int,
    fractions: tuple[float, float, float],
) -> SampleTable:
    names = {folder.name.lower() for folder in folders}
    if "masks" in names and names & {"images", "photos"}:
        raise DataError(
            f"{printable(root)} holds photos and masks, not class folders. Cut tiles from it "
            "first with `finicky tiles`."
        )
    labels = _labels(root, folders)
    by_key = {_key(root, path): label for path, label in labels.items()}
    if split_file is None and (root / "split.csv").is_file():
        split_file = root / "split.csv"
    if split_file is None:
        parts = split_groups(by_key, fractions=fractions, seed=seed, strata=by_key)
        return _table(root, labels, {key: (parts[key], key) for key in by_key})
    listed = read_split_csv(split_file)
    missing = [key for key in by_key if key not in listed]
    if missing:
        raise DataError(
            f"{printable(split_file)} does not list {len(missing)} of {len(by_key)} images, the "
            f"first is {printable(Path(missing[0]))}. Add them, or take them out of the folder."
        )
    assignments = {key: listed[key] for key in by_key}
    return _table(root, labels, carve_validation(assignments, seed=seed, labels=by_key))


def _table(root: Path, labels: dict[Path, str], assignments: dict[str, Assignment]) -> SampleTable:
    keys = {path: _key(root, path) for path in labels}
    in_order = sorted(labels, key=lambda path: keys[path])
    table = SampleTable(
        tuple(
            Sample(path, labels[path], group, split)
            for path, (split, group) in ((path, assignments[keys[path]]) for path in in_order)
        )
    )
    for split, label, number in table.counts():
        if not number:
            raise DataError(
                f"{printable(root)}: the split {split} has no image of class {label}. Add images "
                "of more photos, or change the split."
            )
    return table


def _labels(root: Path, folders: list[Path]) -> dict[Path, str]:
    """The class of each image below class folders, which must be two at least, none empty."""
    if len(folders) < 2:
        found = f"only {folders[0].name}" if folders else "none"
        raise DataError(
            f"{printable(root)}: expected at least two class folders with images in them, such as "
            f"crack and background; found {found}."
        )
    labels: dict[Path, str] = {}
    for folder in folders:
        images = list_images(folder, allow_empty=True)
        if not images:
            raise DataError(
                f"class folder {printable(folder)} holds no image. Fill it or take it away."
            )
        labels |= dict.fromkeys(images, folder.name)
    return labels


def _tile_groups(root: Path, paths: list[Path]) -> dict[Path, str]:
    if not (root / TABLE).is_file():
        return {path: _key(root, path) for path in paths}
    listed = {root / tile.tile: tile.group for tile in read_table(root)}
    for path, fault in [
        *((path, "is not listed in") for path in paths if path not in listed),
        *((path, "is missing but listed in") for path in listed.keys() - set(paths)),
    ]:
        raise DataError(f"{printable(path)} {fault} {TABLE}. Cut the tiles again.")
    return listed


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{printable(folder)} is not a folder; give a folder of class folders.")
    return sorted(
        (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")),
        key=lambda path: path.name,
    )


def _key(root: Path, path: Path) -> str:
    return image_key(path.relative_to(root).as_posix())
