"""Divisions go by group, are the same everywhere, and tables of them are checked line by line."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finicky.data.splits import carve_validation, image_key, read_split_csv, split_groups
from finicky.errors import DataError, UsageError


def names(count: int, prefix: str = "g") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def table(tmp_path, text: str, encoding: str = "utf-8"):
    path = tmp_path / "split.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_the_division_is_pinned():
    # Guards every stored run: a change here moves photos between training and test.
    assert split_groups(["a", "b", "c", "d", "ż"], seed=7) == {
        "a": "validation",
        "b": "train",
        "c": "train",
        "d": "train",
        "ż": "test",
    }


@given(st.sets(st.text(min_size=1, max_size=5), min_size=3, max_size=60), st.integers(0, 5))
def test_every_group_is_in_one_split_and_shares_are_kept(groups, seed):
    parts = split_groups(groups, seed=seed)
    assert set(parts) == groups
    counts = Counter(parts.values())
    assert min(counts.values()) >= 1
    assert len(counts) == 3
    for split, share in [("train", 0.6), ("validation", 0.2), ("test", 0.2)]:
        assert abs(counts[split] - share * len(groups)) <= 1.4


def test_order_and_repetition_do_not_matter_but_the_seed_does():
    groups = names(30)
    assert split_groups(groups) == split_groups([*reversed(groups), "g3"])
    assert split_groups(groups) != split_groups(groups, seed=1)


def test_ten_groups_are_divided_six_two_two():
    counts = Counter(split_groups(names(10)).values())
    assert counts == {"train": 6, "validation": 2, "test": 2}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_groups_are_refused(count):
    with pytest.raises(DataError, match=rf"{count} photos .* 3 splits .* at least 3"):
        split_groups(names(count))


def test_a_share_of_zero_leaves_its_split_empty():
    assert Counter(split_groups(names(4), fractions=(0.75, 0.25, 0)).values()) == {
        "train": 3,
        "validation": 1,
    }


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.3), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_impossible_fractions_are_refused(fractions):
    with pytest.raises(UsageError, match="add up to 1"):
        split_groups(names(9), fractions=fractions)


def test_each_stratum_is_divided_by_itself():
    strata = dict.fromkeys(names(10, "a"), "many") | dict.fromkeys(names(5, "b"), "few")
    parts = split_groups(strata, strata=strata)
    counts = Counter((strata[name], split) for name, split in parts.items())
    assert [counts["many", s] for s in ("train", "validation", "test")] == [6, 2, 2]
    assert [counts["few", s] for s in ("train", "validation", "test")] == [3, 1, 1]


def test_strata_of_one_group_still_fill_every_split():
    strata = {name: name for name in names(3)}
    assert set(split_groups(strata, strata=strata).values()) == {"train", "validation", "test"}


def test_carving_takes_a_quarter_of_the_training_groups_whole():
    given_splits = {f"{group}/{i}": ("train", group) for group in names(8) for i in range(3)}
    given_splits |= {"t/0": ("test", "t")}
    found = carve_validation(given_splits)
    by_split = {split: {g for s, g in found.values() if s == split} for split, _ in found.values()}
    assert {split: len(groups) for split, groups in by_split.items()} == {
        "train": 6,
        "validation": 2,
        "test": 1,
    }
    assert not by_split["train"] & by_split["validation"]
    assert list(found) == list(given_splits)


def test_carving_leaves_an_existing_validation_alone():
    splits = {"a": ("train", "a"), "b": ("validation", "b"), "c": ("test", "c")}
    assert carve_validation(splits) == splits


def test_carving_does_not_depend_on_the_order():
    splits = {name: ("train", name) for name in names(12)}
    shuffled = dict(reversed(splits.items()))
    assert carve_validation(splits) == carve_validation(shuffled)


def test_carving_by_class_takes_from_each():
    splits = {name: ("train", name) for name in [*names(8, "a"), *names(8, "b")]}
    found = carve_validation(splits, labels={name: name[0] for name in splits})
    assert Counter(n[0] for n, (s, _) in found.items() if s == "validation") == {"a": 2, "b": 2}


def test_carving_needs_two_training_groups():
    with pytest.raises(DataError, match=r"has 1 group.*at least 2"):
        carve_validation({"a": ("train", "g"), "b": ("train", "g"), "c": ("test", "h")})


@pytest.mark.parametrize("fraction", [0, 1, -0.5])
def test_carving_all_or_nothing_is_refused(fraction):
    with pytest.raises(UsageError, match=f"between 0 and 1, got {fraction}"):
        carve_validation({"a": ("train", "a")}, fraction=fraction)


def test_a_split_table_is_read(tmp_path):
    path = table(tmp_path, "image,split,group\na/1.jpg,train,g1\na/2.jpg,train,g1\n3.jpg,test,g2\n")
    assert read_split_csv(path) == {
        "a/1.jpg": ("train", "g1"),
        "a/2.jpg": ("train", "g1"),
        "3.jpg": ("test", "g2"),
    }


def test_tables_from_a_spreadsheet_are_read(tmp_path):
    path = table(tmp_path, "Image;Split;Group\r\na\\ó.jpg;validation; \r\n\r\n", "utf-8-sig")
    assert read_split_csv(path) == {"a/ó.jpg": ("validation", "a/ó.jpg")}


def test_the_group_may_be_left_out(tmp_path):
    assert read_split_csv(table(tmp_path, "split,image\ntest,1.jpg\n")) == {
        "1.jpg": ("test", "1.jpg")
    }


def test_accents_are_composed():
    assert image_key("o\u0301.jpg") == "\u00f3.jpg"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"line 1: expected the columns image, split and group, got nothing"),
        ("file,part\n", r"line 1: expected .* got file, part"),
        ("image,split,group\n", "lists no image"),
        ("image,split,group\n1.jpg,train,a\n1.jpg,train,a\n", r"line 3 lists 1\.jpg twice"),
        ("image,split,group\n,train,a\n", "line 2 names no image"),
        ("image,split,group\n1.jpg,valid,a\n", r"line 2: no split named 'valid'.*validation"),
        ("image,split,group\n1.jpg\n", "line 2: no split named ''"),
        (
            "image,split,group\n1.jpg,train,a\n2.jpg,train,b\n3.jpg,test,a\n",
            r"line 4: group 'a' is in test, but in train on line 2",
        ),
    ],
)
def test_faults_of_a_split_table_are_named_by_line(tmp_path, text, fault):
    with pytest.raises(DataError, match=rf"split\.csv.*{fault}"):
        read_split_csv(table(tmp_path, text))


def test_a_table_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(DataError, match="not UTF-8"):
        read_split_csv(table(tmp_path, "image,split,group\nł.jpg,train,a\n", "cp1250"))


def test_a_missing_table_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*split\.csv: No such file"):
        read_split_csv(tmp_path / "split.csv")
