"""A project on disk: photos, masks, and ``finicky.toml`` with the classes and defaults."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from finicky.classes import DEFAULT_CLASSES, ClassTable, MaskClass, Role
from finicky.errors import DataError, UsageError, nearest_names
from finicky.files import write_bytes, write_text
from finicky.images import printable

PROJECT_FILE = "finicky.toml"
FORMAT_VERSION = 1
DEFAULT_BACKBONE = "vgg16"
DEFAULT_TILE = 96

_PHOTO_FOLDERS = ("photos", "images")
_MASK_FOLDER = "masks"
_SLASHES = "Write paths with / instead of \\."


@dataclass(frozen=True)
class Project:
    """Where a project's parts lie, and its settings.

    Attributes:
        root: The project's folder, absolute.
        photos: Photos, at any depth below it; never written to.
        masks: Masks, each under the key of its photo with ``.png`` added.
        runs: Results.
        classes: The classes of the masks; their ids never change.
        backbone: Name of the network that is pruned by default.
        tile: Side of the tiles in px by default.
        split_file: ``split.csv`` in ``root``, or None where there is none.
    """

    root: Path
    photos: Path
    masks: Path
    runs: Path
    classes: ClassTable = DEFAULT_CLASSES
    backbone: str = DEFAULT_BACKBONE
    tile: int = DEFAULT_TILE
    split_file: Path | None = None

    @classmethod
    def open(cls, path: Path) -> Project:
        """The project of a folder, or of the ``finicky.toml`` that is named.

        A folder without ``finicky.toml`` is a project with the defaults if it holds ``photos`` or
        ``images`` beside ``masks`` (in any case; ``photos`` wins).

        Raises:
            UsageError: There is no project at ``path``.
            DataError: ``finicky.toml`` has a fault, or is of a newer format.
        """
        path = Path(path)
        root = (path.parent if path.name == PROJECT_FILE else path).resolve()
        if not root.is_dir():
            raise UsageError(f"{printable(path)} is not a folder; give the folder of a project.")
        if (root / PROJECT_FILE).is_file():
            return _from_file(root)
        photos, masks = _subfolder(root, _PHOTO_FOLDERS), _subfolder(root, (_MASK_FOLDER,))
        if photos is None or masks is None:
            raise UsageError(
                f"{printable(root)} is no project: looked for {PROJECT_FILE}, or for photos/ (or "
                "images/) beside masks/. Make one with `finicky init`."
            )
        return cls(root, photos, masks, root / "runs", split_file=_split_file(root))


def create_project(
    root: Path, photos_source: Path | None = None, *, force: bool = False
) -> Project:
    """Make a project: ``finicky.toml`` and folders for photos, masks and runs.

    Photos stay where they are: ``photos_source`` is only referred to. Without it ``photos`` is
    made, unless ``root`` has ``photos`` or ``images`` already.

    Args:
        root: Folder of the project; made if missing.
        photos_source: Folder of photos; below ``root`` it is kept as a relative path.
        force: Write a new ``finicky.toml`` over an old one, kept as ``finicky.toml.bak``.

    Raises:
        UsageError: There is a project already, or ``photos_source`` is no folder or holds
            ``root`` (results would be taken for photos).
        DataError: A file or folder cannot be written.
    """
    root = Path(root).resolve()
    if (root / PROJECT_FILE).exists() and not force:
        raise UsageError(
            f"{printable(root)} has a {PROJECT_FILE} already; write a new one with --force."
        )
    photos = _chosen_photos(root, photos_source)
    masks = _subfolder(root, (_MASK_FOLDER,)) or root / _MASK_FOLDER
    try:
        for folder in (root, photos, masks, root / "runs"):
            folder.mkdir(parents=True, exist_ok=True)
        if (root / PROJECT_FILE).is_file():
            write_bytes(root / f"{PROJECT_FILE}.bak", (root / PROJECT_FILE).read_bytes())
    except OSError as error:
        raise DataError(f"cannot make a project in {printable(root)}: {error.strerror}.") from error
    write_text(root / PROJECT_FILE, _file_text(_reference(root, photos), _reference(root, masks)))
    return Project.open(root)


def is_folder_name(name: str) -> bool:
    """Whether a class name can name a folder on every system."""
    return bool(name) and name.isprintable() and not re.search(r'[<>:"/\\|?*]|^[. ]|[. ]$', name)


def _from_file(root: Path) -> Project:
    file = root / PROJECT_FILE
    top = _Table(file, "", _load(file))
    _check_version(file, top.get("format", int, FORMAT_VERSION))
    folders = _Table(file, "folders", top.get("folders", dict, {}))
    defaults = _Table(file, "defaults", top.get("defaults", dict, {}))
    classes = top.get("classes", list, None)
    project = Project(
        root,
        photos=_folder(root, folders, "photos"),
        masks=_folder(root, folders, _MASK_FOLDER),
        runs=_folder(root, folders, "runs"),
        classes=DEFAULT_CLASSES if classes is None else _classes(file, classes),
        backbone=defaults.get("backbone", str, DEFAULT_BACKBONE),
        tile=defaults.get("tile", int, DEFAULT_TILE),
        split_file=_split_file(root),
    )
    for table in (top, folders, defaults):
        table.refuse_rest()
    if project.tile < 8:
        raise DataError(f"{printable(file)}: tile must be at least 8 px, got {project.tile}.")
    return project


def _load(file: Path) -> dict[str, Any]:
    text = ""
    try:
        # Editors on Windows put a byte-order mark first, which TOML does not know.
        text = file.read_text(encoding="utf-8-sig")
        return tomllib.loads(text)
    except OSError as error:
        raise DataError(f"cannot read {printable(file)}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(file)} is not UTF-8 text. Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        hint = f" {_SLASHES}" if "\\" in text else ""
        raise DataError(f"{printable(file)} is not valid TOML: {error}.{hint}") from error


def _folder(root: Path, folders: _Table, key: str) -> Path:
    path = folders.get(key, str, key)
    if not path or not path.isprintable():  # "C:\new" is valid TOML: C:, a line break, ew
        raise DataError(
            f"{printable(root / PROJECT_FILE)}: {key} names no folder, got {path!r}. {_SLASHES}"
        )
    return root / path


def _check_version(file: Path, version: int) -> None:
    if version > FORMAT_VERSION:
        raise DataError(
            f"{printable(file)} has format {version}, this version of Finicky reads up to "
            f"{FORMAT_VERSION}. Install a newer Finicky."
        )
    if version < 1:
        raise DataError(f"{printable(file)}: format must be {FORMAT_VERSION}, got {version}.")


class _Table:
    """A table of the file, whose keys are taken one by one; what remains is unknown."""

    def __init__(self, file: Path, name: str, values: Mapping[str, Any]) -> None:
        self._place = f"{printable(file)}{f', [{name}]' if name else ''}"
        self._rest = dict(values)
        self._known: list[str] = []

    def get(self, key: str, kind: type, default: Any) -> Any:
        self._known.append(key)
        value = self._rest.pop(key, default)
        if value is not default and type(value) is not kind:
            words = {int: "a whole number", str: "text in quotes", list: "[[tables]]"}
            wanted = words.get(kind, "a [table]")
            raise DataError(f"{self._place}: {key} must be {wanted}, got {value!r}.")
        return value

    def require(self, key: str, kind: type) -> Any:
        value = self.get(key, kind, None)
        if value is None:
            raise DataError(f"{self._place}: {key} is missing.")
        return value

    def refuse_rest(self) -> None:
        for key in self._rest:
            raise DataError(
                f"{self._place}: unknown key {key!r}. {nearest_names(key, self._known)}"
            )


def _classes(file: Path, rows: list[Any]) -> ClassTable:
    found = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{printable(file)}: classes must be [[classes]] tables, got {row!r}.")
        found.append(_class(_Table(file, f"classes, number {number}", row), file))
    try:
        return ClassTable(found)
    except UsageError as error:
        raise DataError(f"{printable(file)}: {error}") from error


def _class(table: _Table, file: Path) -> MaskClass:
    mask_class = MaskClass(
        id=table.require("id", int),
        name=table.require("name", str),
        color=table.require("color", str),
        key=table.get("key", str, ""),
        role=table.require("role", str),
    )
    table.refuse_rest()
    where = f"{printable(file)}, class {mask_class.name!r}"
    if not is_folder_name(mask_class.name):
        raise DataError(f'{where}: the name must be fit for a folder, without / \\ : * ? " < > |.')
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", mask_class.color):
        raise DataError(f"{where}: color must be like #D55E00, got {mask_class.color!r}.")
    if mask_class.role not in get_args(Role):
        raise DataError(
            f"{where}: no role named {mask_class.role!r}. "
            f"{nearest_names(mask_class.role, get_args(Role))}"
        )
    return mask_class


def _subfolder(root: Path, names: Iterable[str]) -> Path | None:
    """The folder in ``root`` of the first of ``names`` that is there, in any case."""
    inside: dict[str, Path] = {}
    with suppress(OSError):
        inside = {p.name.lower(): p for p in sorted(root.iterdir(), reverse=True) if p.is_dir()}
    return next((inside[name] for name in names if name in inside), None)


def _split_file(root: Path) -> Path | None:
    path = root / "split.csv"
    return path if path.is_file() else None


def _chosen_photos(root: Path, source: Path | None) -> Path:
    if source is None:
        return _subfolder(root, _PHOTO_FOLDERS) or root / "photos"
    source = Path(source).resolve()
    if not source.is_dir():
        raise UsageError(f"{printable(source)} is not a folder; give the folder of the photos.")
    if root.is_relative_to(source):
        raise UsageError(
            f"the project {printable(root)} would lie in its photos folder {printable(source)}; "
            "choose another place for the project."
        )
    return source


def _reference(root: Path, folder: Path) -> str:
    return (folder.relative_to(root) if folder.is_relative_to(root) else folder).as_posix()


def _file_text(photos: str, masks: str) -> str:
    head = _HEAD.format(photos=_quoted(photos), masks=_quoted(masks))
    return "\n".join([head, *(_class_text(mask_class) for mask_class in DEFAULT_CLASSES)])


def _class_text(mask_class: MaskClass) -> str:
    name, color, key, role = (
        _quoted(text)
        for text in (mask_class.name, mask_class.color, mask_class.key, mask_class.role)
    )
    return _CLASS.format(id=mask_class.id, name=name, color=color, key=key, role=role)


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise UsageError(f"the path {text!r} holds characters that {PROJECT_FILE} cannot hold.")
    return json.dumps(text, ensure_ascii=False)


_HEAD = f"""\
# A Finicky project. Text after # is a comment.
format = {FORMAT_VERSION}

[folders]
# Relative to this file, or absolute; / separates folders on every system.
# Photos are only read. The mask of photos/a/1.jpg is masks/a/1.jpg.png.
photos = {{photos}}
masks = {{masks}}
runs = "runs"

[defaults]
backbone = "{DEFAULT_BACKBONE}"  # the network that is pruned; `finicky backbones` lists them
tile = {DEFAULT_TILE}           # side of the square tiles that are classified, in pixels

# What a pixel of a mask can be. 0 is unlabelled. Never change an id once masks hold it; names,
# colours and keys may change. role: "target" is what to find, "distractor" looks like it,
# "background" is plain surface.
"""
_CLASS = """\
[[classes]]
id = {id}
name = {name}
color = {color}
key = {key}
role = {role}
"""
