"""Projects: what is read as one, what the file may say, and that nothing of a user's is lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from finicky.classes import DEFAULT_CLASSES
from finicky.errors import DataError, UsageError
from finicky.project import Project, create_project, is_folder_name


def write(root: Path, text: str) -> Path:
    (root / "finicky.toml").write_text(text, encoding="utf-8")
    return root


def test_a_made_project_opens_with_the_defaults(tmp_path):
    made = create_project(tmp_path / "my bridge ż")
    assert made == Project.open(made.root) == Project.open(made.root / "finicky.toml")
    assert made.root == (tmp_path / "my bridge ż").resolve()
    assert made.classes == DEFAULT_CLASSES
    assert (made.backbone, made.tile, made.split_file) == ("vgg16", 96, None)
    for folder, name in [(made.photos, "photos"), (made.masks, "masks"), (made.runs, "runs")]:
        assert folder == made.root / name
        assert folder.is_dir()


def test_the_made_file_explains_itself(tmp_path):
    text = (create_project(tmp_path).root / "finicky.toml").read_text(encoding="utf-8")
    assert "Never change an id" in text
    assert 'photos = "photos"' in text
    assert text.count("[[classes]]") == 4
    assert all(len(line) <= 100 for line in text.splitlines())


def test_photos_elsewhere_are_referred_to_and_never_touched(tmp_path):
    photos = tmp_path / "disk D" / "zdjęcia"
    photos.mkdir(parents=True)
    (photos / "1.jpg").write_bytes(b"pixels")
    before = (photos / "1.jpg").stat()
    made = create_project(tmp_path / "project", photos)
    assert made.photos == photos.resolve()
    assert not (made.root / "photos").exists()
    assert (photos / "1.jpg").stat() == before


def test_photos_below_the_project_are_kept_relative(tmp_path):
    (tmp_path / "a" / "raw").mkdir(parents=True)
    create_project(tmp_path / "a", tmp_path / "a" / "raw")
    (tmp_path / "a").rename(tmp_path / "b")
    assert Project.open(tmp_path / "b").photos == (tmp_path / "b" / "raw").resolve()


def test_folders_that_are_there_are_used(tmp_path):
    (tmp_path / "Images").mkdir()
    (tmp_path / "masks").mkdir()
    assert create_project(tmp_path).photos.name == "Images"


def test_photos_that_hold_the_project_are_refused(tmp_path):
    for root in (tmp_path, tmp_path / "inside"):
        with pytest.raises(UsageError, match="would lie in its photos folder"):
            create_project(root, tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_photos_are_refused(tmp_path):
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        create_project(tmp_path / "p", tmp_path / "nowhere")
    assert not (tmp_path / "p").exists()


def test_a_project_is_written_over_only_with_force_and_kept_as_backup(tmp_path):
    create_project(tmp_path)
    write(tmp_path, "format = 1  # mine\n")
    with pytest.raises(UsageError, match=r"has a finicky\.toml already.*--force"):
        create_project(tmp_path)
    assert (tmp_path / "finicky.toml").read_text() == "format = 1  # mine\n"
    create_project(tmp_path, force=True)
    assert (tmp_path / "finicky.toml.bak").read_text() == "format = 1  # mine\n"
    assert "[[classes]]" in (tmp_path / "finicky.toml").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids such names")
def test_a_path_that_toml_cannot_hold_is_refused(tmp_path):
    (tmp_path / "a\nb").mkdir()
    with pytest.raises(UsageError, match="holds characters"):
        create_project(tmp_path / "p", tmp_path / "a\nb")


@pytest.mark.parametrize("photos", ["photos", "images", "Images"])
def test_photos_beside_masks_are_a_project(tmp_path, photos):
    (tmp_path / photos).mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "split.csv").touch()
    opened = Project.open(tmp_path)
    assert opened.photos == tmp_path.resolve() / photos
    assert opened.classes == DEFAULT_CLASSES
    assert opened.split_file == tmp_path.resolve() / "split.csv"


def test_photos_win_over_images(tmp_path):
    for name in ("images", "photos", "masks"):
        (tmp_path / name).mkdir()
    assert Project.open(tmp_path).photos.name == "photos"


def test_anything_else_says_what_was_looked_for(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match=r"no project: looked for finicky\.toml.*`finicky init`"):
        Project.open(tmp_path)
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        Project.open(tmp_path / "nowhere")


def test_the_project_of_the_current_folder_has_a_name(tmp_path, monkeypatch):
    create_project(tmp_path / "bridge")
    monkeypatch.chdir(tmp_path / "bridge")
    assert Project.open(Path()).root.name == "bridge"


def test_own_folders_defaults_and_classes_are_read(tmp_path):
    write(
        tmp_path,
        '[folders]\nphotos = "/elsewhere"\nmasks = "labels"\n[defaults]\nbackbone = "alexnet"\n'
        'tile = 64\n[[classes]]\nid = 3\nname = "rysa"\ncolor = "#aabbcc"\nrole = "target"\n',
    )
    opened = Project.open(tmp_path)
    assert opened.photos == Path("/elsewhere")
    assert opened.masks == tmp_path.resolve() / "labels"
    assert (opened.backbone, opened.tile) == ("alexnet", 64)
    assert [(c.id, c.name, c.key) for c in opened.classes] == [(3, "rysa", "")]


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "finicky.toml").write_bytes(b"\xef\xbb\xbfformat = 1\n")
    assert Project.open(tmp_path).tile == 96


CLASS = '[[classes]]\nid = 1\nname = "crack"\ncolor = "#D55E00"\nrole = "target"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("format = 2", r"has format 2, this version of Finicky reads up to 1. Install a newer"),
        ("format = 0", "format must be 1, got 0"),
        ('format = "1"', "format must be a whole number, got '1'"),
        ("format = true", "format must be a whole number, got True"),
        ("clases = 1", r"unknown key 'clases'\. Did you mean classes\?"),
        ('[folders]\nphoto = "x"', r"\[folders\]: unknown key 'photo'\. Did you mean photos\?"),
        ("[folders]\nphotos = 3", r"\[folders\]: photos must be text in quotes, got 3"),
        ("folders = 3", r"folders must be a \[table\], got 3"),
        ("[defaults]\ntile = 96.0", "tile must be a whole number, got 96.0"),
        ("[defaults]\ntile = 0", "tile must be at least 8 px, got 0"),
        ("classes = 1", r"classes must be \[\[tables\]\], got 1"),
        ("classes = [1]", r"classes must be \[\[classes\]\] tables, got 1"),
        ("[[classes]]\nid = 1", r"number 1\]: name is missing"),
        (CLASS + 'colour = "#000000"', r"unknown key 'colour'\. Did you mean color\?"),
        (CLASS.replace("#D55E00", "red"), "color must be like #D55E00, got 'red'"),
        (CLASS.replace("target", "tagret"), "no role named 'tagret'. Did you mean target"),
        (CLASS.replace('"crack"', '"crack/spall"'), "class 'crack/spall': the name must be fit"),
        (CLASS + CLASS, "ids and names must be unique"),
        (CLASS.replace("id = 1", "id = 255"), "ids must be 1 to 254"),
        ('[folders]\nphotos = "C:\\Users"', "not valid TOML.* Write paths with / instead"),
        ('[folders]\nphotos = "C:\\new"', r"photos names no folder.*Write paths with / instead"),
        ('[folders]\nmasks = ""', "masks names no folder, got ''"),
        ("format = !", "not valid TOML: .*line 1"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path, text, fault):
    with pytest.raises(DataError, match=rf"finicky\.toml.*{fault}"):
        Project.open(write(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "finicky.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        Project.open(tmp_path)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs file rights")
def test_a_place_that_cannot_be_written_is_a_data_error(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="cannot make a project"):
        create_project(tmp_path / "locked" / "p")


@pytest.mark.parametrize("name", ["crack", "pęknięcie", "wide crack", "a.b", "crack-1"])
def test_names_fit_for_folders(name):
    assert is_folder_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a:b", "a ", ".a", "a\n", "a?"])
def test_names_not_fit_for_folders(name):
    assert not is_folder_name(name)
