"""Class folders become samples with class, group and split, or one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from finicky.data.folders import read_class_folders
from finicky.errors import DataError, UsageError

REAL = Path(__file__).parents[3] / "shared" / "data"


def lay(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def numbered(folder: str, count: int) -> list[str]:
    return [f"{folder}/{number}.jpg" for number in range(count)]


def test_plain_class_folders_are_divided_class_by_class(tmp_path):
    table = read_class_folders(lay(tmp_path, *numbered("crack", 10), *numbered("clean", 5)))
    assert table.classes == ("clean", "crack")
    assert table.counts() == (
        ("train", "clean", 3),
        ("train", "crack", 6),
        ("validation", "clean", 1),
        ("validation", "crack", 2),
        ("test", "clean", 1),
        ("test", "crack", 2),
    )
    first = table.samples[0]
    assert (first.path, first.label, first.group) == (
        tmp_path / "clean" / "0.jpg",
        "clean",
        "clean/0.jpg",
    )


def test_the_seed_changes_the_division_and_nothing_else_does(tmp_path):
    lay(tmp_path, *numbered("crack", 12), *numbered("clean", 12))
    assert read_class_folders(tmp_path) == read_class_folders(tmp_path)
    assert read_class_folders(tmp_path) != read_class_folders(tmp_path, seed=1)


def test_a_split_table_in_the_folder_is_followed(tmp_path):
    lay(tmp_path, *numbered("crack", 6), *numbered("clean", 6))
    rows = [
        f"{label}/{i}.jpg,{'test' if i < 2 else 'train'},{label}{i // 2}"
        for label in ("crack", "clean")
        for i in range(6)
    ]
    (tmp_path / "split.csv").write_text("image,split,group\n" + "\n".join(rows), "utf-8")
    samples = read_class_folders(tmp_path).samples
    assert {s.path.name for s in samples if s.split == "test"} == {"0.jpg", "1.jpg"}
    # Two training groups of two images in each class: one of them becomes validation, whole.
    for label in ("crack", "clean"):
        inside = [s for s in samples if s.label == label]
        assert len({s.group for s in inside if s.split == "validation"}) == 1
        assert sum(s.split == "validation" for s in inside) == 2


def test_images_that_the_split_table_does_not_list_are_named(tmp_path):
    lay(tmp_path, *numbered("crack", 2), *numbered("clean", 1))
    split = tmp_path / "elsewhere.csv"
    split.write_text("image,split,group\ncrack/0.jpg,train,a\n", "utf-8")
    with pytest.raises(DataError, match=r"does not list 2 of 3 images, the first is clean"):
        read_class_folders(tmp_path, split_file=split)


def test_split_folders_are_kept_and_validation_has_other_names(tmp_path):
    lay(tmp_path, *(f"{s}/{c}/1.png" for s in ("train", "val", "test") for c in ("a", "b")))
    assert {s.split for s in read_class_folders(tmp_path).samples} == {
        "train",
        "validation",
        "test",
    }


def test_validation_is_carved_where_only_train_and_test_exist(tmp_path):
    lay(tmp_path, *numbered("train/a", 8), *numbered("train/b", 8), "test/a/1.png", "test/b/1.png")
    assert read_class_folders(tmp_path).counts() == (
        ("train", "a", 6),
        ("train", "b", 6),
        ("validation", "a", 2),
        ("validation", "b", 2),
        ("test", "a", 1),
        ("test", "b", 1),
    )


def test_split_folders_and_a_split_table_contradict(tmp_path):
    lay(tmp_path, "train/a/1.png", "train/b/1.png")
    with pytest.raises(UsageError, match="divided into split folders already"):
        read_class_folders(tmp_path, split_file=tmp_path / "split.csv")


def test_a_split_without_a_class_is_refused(tmp_path):
    lay(
        tmp_path,
        *(f"{s}/{c}/1.png" for s in ("train", "validation") for c in "abc"),
        *(f"test/{c}/1.png" for c in "ab"),
    )
    with pytest.raises(DataError, match="the split test has no image of class c"):
        read_class_folders(tmp_path)


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"at least two class folders .* found only crack"):
        read_class_folders(lay(tmp_path, "crack/1.jpg"))


def test_no_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="found none"):
        read_class_folders(lay(tmp_path, "1.jpg", ".hidden/1.jpg"))


def test_an_empty_class_folder_is_refused(tmp_path):
    lay(tmp_path, "crack/1.jpg", "clean/notes.txt")
    with pytest.raises(DataError, match=r"class folder .*clean holds no image"):
        read_class_folders(tmp_path)


def test_too_few_images_of_a_class_are_refused(tmp_path):
    lay(tmp_path, *numbered("crack", 9), "clean/1.jpg", "clean/2.jpg")
    with pytest.raises(DataError, match="has no image of class clean"):
        read_class_folders(tmp_path)


def test_photos_beside_masks_are_not_taken_for_classes(tmp_path):
    lay(tmp_path, "images/1.jpg", "masks/1.png")
    with pytest.raises(DataError, match=r"photos and masks, not class folders.*finicky tiles"):
        read_class_folders(tmp_path)


def test_a_missing_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        read_class_folders(tmp_path / "nowhere")


@pytest.mark.real_data
def test_real_class_folders_keep_their_published_test_split():
    if not (REAL / "metu").is_dir():
        pytest.skip("no folder ../shared/data/metu beside the checkout")
    counts = {(split, label): n for split, label, n in read_class_folders(REAL / "metu").counts()}
    assert counts["test", "crack"] == counts["test", "background"] == 280
    assert counts["train", "crack"] == 315
    assert counts["validation", "crack"] == 105
