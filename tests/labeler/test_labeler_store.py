"""Masks on disk: nothing lost, nothing written over."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from labeler_helpers import make_project, stored_ids
from PIL import Image

from finicky.classes import DEFAULT_CLASSES
from finicky.errors import DataError, MaskError
from finicky.labeler import MaskStore, Workplace, patches
from finicky.labeler.states import States
from finicky.labeler.store import Author, ConflictError
from finicky.masks import read_mask

NAME = "photo 0.png"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return make_project(tmp_path / "p")


def _open(place: Workplace) -> tuple[MaskStore, object]:
    photos = place.scan()
    return MaskStore(place, photos), photos[0]


def _dot(x: int, y: int, value: int = 1) -> bytes:
    return np.array([x, y, 1, 1, 1, value << 24 | 1], "<u4").tobytes()


def test_a_stroke_becomes_an_indexed_png_that_the_pipeline_reads(place: Workplace) -> None:
    store, photo = _open(place)
    saved = store.save(photo, _dot(5, 7, 2), Author("session-a", 1, ""))
    ids = read_mask(store.path(photo), DEFAULT_CLASSES, size=(200, 120))
    assert saved.revision == 1
    assert np.argwhere(ids).tolist() == [[7, 5]]
    assert ids[7, 5] == 2


def test_revision_and_author_survive_a_restart(place: Workplace) -> None:
    store, photo = _open(place)
    first = store.save(photo, _dot(1, 1), Author("session-a", 1, ""))
    second = store.save(photo, _dot(2, 1), Author("session-a", 2, first.version))
    store, photo = _open(place)
    found = store.load(photo)
    assert (found.version, found.revision, found.author) == (second.version, 2, second.author)


def test_a_stroke_whose_answer_was_lost_is_accepted_again_once(place: Workplace) -> None:
    store, photo = _open(place)
    author = Author("session-a", 1, "")
    saved = store.save(photo, _dot(1, 1), author)
    store, photo = _open(place)  # the server was killed after writing, before answering
    assert store.save(photo, _dot(1, 1), author).revision == saved.revision
    more = store.save(photo, _dot(1, 1) + _dot(2, 2), Author("session-a", 2, ""))
    assert more.revision == 2
    assert more.ids.sum() == 2


def test_a_stroke_on_an_outdated_mask_is_a_conflict_and_changes_nothing(place: Workplace) -> None:
    store, photo = _open(place)
    store.save(photo, _dot(1, 1), Author("session-a", 1, ""))
    before = store.path(photo).read_bytes()
    with pytest.raises(ConflictError):
        store.save(photo, _dot(9, 9), Author("session-b", 1, ""))
    assert store.path(photo).read_bytes() == before


def test_both_sides_of_a_conflict_are_kept(place: Workplace) -> None:
    store, photo = _open(place)
    store.save(photo, _dot(1, 1), Author("session-a", 1, ""))
    whole = store.keep_copy(photo, _dot(9, 9), whole=True, name="b")
    added = store.keep_copy(photo, _dot(9, 9), whole=False, name="c")
    size = (200, 120)
    assert np.argwhere(read_mask(whole, DEFAULT_CLASSES, size=size)).tolist() == [[9, 9]]
    assert np.argwhere(read_mask(added, DEFAULT_CLASSES, size=size)).tolist() == [[1, 1], [9, 9]]
    assert stored_ids(place.root, NAME).sum() == 1


def test_a_change_by_another_program_is_noticed(place: Workplace) -> None:
    store, photo = _open(place)
    saved = store.save(photo, _dot(1, 1), Author("session-a", 1, ""))
    Image.fromarray(np.full((120, 200), 255, np.uint8)).save(store.path(photo))
    with pytest.raises(ConflictError):
        store.save(photo, _dot(2, 2), Author("session-a", 2, saved.version))


def test_a_mask_of_another_program_is_kept_before_it_is_first_changed(place: Workplace) -> None:
    binary = np.zeros((120, 200), np.uint8)
    binary[3, 4] = 255
    path = place.masks / "photo 0.png"  # the short name, as other tools write it
    Image.fromarray(binary).save(path)
    before = path.read_bytes()
    store, photo = _open(place)
    stored = store.load(photo)
    assert stored.ids[3, 4] == 1
    store.save(photo, _dot(1, 1), Author("session-a", 1, stored.version))
    assert (place.state / "originals" / "photo 0.png").read_bytes() == before
    assert not (place.masks / "photo 0.png.png").exists()  # two masks of one photo are an error


def test_an_unreadable_mask_is_refused_and_left_alone(place: Workplace) -> None:
    store, photo = _open(place)
    path = store.path(photo)
    Image.fromarray(np.full((12, 20), 1, np.uint8)).save(path)
    before = path.read_bytes()
    with pytest.raises(MaskError):
        store.load(photo)
    with pytest.raises(MaskError):
        store.save(photo, _dot(1, 1), Author("session-a", 1, ""))
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_mask_and_says_so(place: Workplace) -> None:
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    store, photo = _open(place)
    saved = store.save(photo, _dot(1, 1), Author("session-a", 1, ""))
    before = store.path(photo).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with pytest.raises(DataError, match="could not write"):
            store.save(photo, _dot(2, 2), Author("session-a", 2, saved.version))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.path(photo).read_bytes() == before
    assert not list(place.masks.glob(".*"))
    again = store.save(photo, _dot(2, 2), Author("session-a", 2, saved.version))
    assert again.revision == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_an_error_and_no_loss(place: Workplace) -> None:
    store, photo = _open(place)
    place.masks.chmod(0o555)
    try:
        with pytest.raises(DataError):
            store.save(photo, _dot(1, 1), Author("session-a", 1, ""))
    finally:
        place.masks.chmod(0o755)


def test_photos_are_never_touched(place: Workplace) -> None:
    def hashes() -> dict[str, str]:
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in place.photos.rglob("*")}

    before = hashes()
    store, photo = _open(place)
    store.save(photo, _dot(1, 1), Author("session-a", 1, ""))
    States(place).update(photo, status="done", note="ok")
    assert hashes() == before


def test_status_and_note_survive_a_restart(place: Workplace) -> None:
    photo = place.scan()[0]
    States(place).update(photo, status="done", note="zażółć <b>")
    assert States(place).get(photo).status == "done"
    assert States(place).get(photo).note == "zażółć <b>"


def test_a_damaged_state_file_costs_no_more_than_the_status(place: Workplace) -> None:
    photo = place.scan()[0]
    States(place).update(photo, status="done")
    next((place.state / "photos").glob("*.json")).write_text("{")
    assert States(place).get(photo).status == "todo"


def test_a_whole_mask_can_be_read_back(place: Workplace) -> None:
    store, photo = _open(place)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, (120, 200)).astype(np.uint8)
    store.save(photo, patches.encode(ids), Author("session-a", 1, ""))
    np.testing.assert_array_equal(stored_ids(place.root, NAME), ids)
