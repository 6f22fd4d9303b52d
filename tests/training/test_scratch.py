"""Backbones trained from scratch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finicky.backbones import load_backbone
from finicky.errors import DataError, UsageError
from finicky.training.scratch import ScratchSettings, train_backbone

SETTINGS = ScratchSettings(size=64, epochs=3, batch=8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark stripes against plain noise: learnable in a few steps."""
    root = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for label in ("crack", "background"):
        (root / label).mkdir()
        for number in range(30):
            photo = random.integers(120, 180, (64, 64, 3), dtype=np.uint8)
            if label == "crack":
                photo[:, 20 + number // 2 : 28 + number // 2] = 10
            Image.fromarray(photo).save(root / label / f"{number:02d}.png")
    return root


def test_trained_backbone_is_loaded_by_its_folder(folders: Path, tmp_path: Path) -> None:
    report = train_backbone("alexnet", folders, tmp_path / "mine", SETTINGS)
    backbone = load_backbone(tmp_path / "mine")
    assert backbone.name == "alexnet"
    assert "trained from scratch on" in backbone.provenance.source
    assert 0 <= report.balanced_accuracy <= 1
    assert report.validation_tiles == 12
    names = sorted(p.name for p in (tmp_path / "mine").iterdir())
    assert names == ["backbone.json", "model.safetensors", "training.json"]


def test_training_lowers_the_loss_of_what_was_seen(folders: Path, tmp_path: Path) -> None:
    """It learns: the stripes are told from noise, which fresh weights do not do."""
    settings = ScratchSettings(size=64, epochs=8, batch=8)
    report = train_backbone("alexnet-bn", folders, tmp_path / "mine", settings)
    assert report.balanced_accuracy > 0.8


def test_interrupted_training_ends_with_the_same_weights(folders: Path, tmp_path: Path) -> None:
    train_backbone("alexnet", folders, tmp_path / "whole", SETTINGS)

    class Stop(Exception):
        pass

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "train" and done > total // 2:
            raise Stop

    with pytest.raises(Stop):
        train_backbone("alexnet", folders, tmp_path / "cut", SETTINGS, progress=interrupt)
    assert (tmp_path / "cut" / "checkpoint.safetensors").is_file()
    train_backbone("alexnet", folders, tmp_path / "cut", SETTINGS)
    whole, cut = (load_backbone(tmp_path / n).module.state_dict() for n in ("whole", "cut"))
    for name in whole:
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-4, atol=1e-5)


def test_other_training_in_the_folder_is_refused(folders: Path, tmp_path: Path) -> None:
    train_backbone("alexnet", folders, tmp_path / "mine", SETTINGS)
    other = ScratchSettings(size=64, epochs=1, batch=8)
    with pytest.raises(UsageError, match=r"mine is finished: use it with --backbone"):
        train_backbone("alexnet", folders, tmp_path / "mine", SETTINGS)
    with pytest.raises(UsageError, match="holds another training"):
        train_backbone("alexnet", folders, tmp_path / "mine", other)
    train_backbone("alexnet", folders, tmp_path / "mine", other, force=True)
    card = json.loads((tmp_path / "mine" / "training.json").read_text())
    assert card["settings"]["epochs"] == 1


def test_bad_arguments_are_refused_before_work(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no architecture named 'alxnet'\. Did you mean alexnet"):
        train_backbone("alxnet", folders, tmp_path / "x", SETTINGS)
    with pytest.raises(UsageError, match="alexnet needs photos of at least 63 px, got 32"):
        train_backbone("alexnet", folders, tmp_path / "x", ScratchSettings(size=32))
    with pytest.raises(UsageError, match="epochs must be at least 1, got 0"):
        ScratchSettings(epochs=0)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="is not empty"):
        train_backbone("alexnet", folders, tmp_path / "taken", SETTINGS)
    with pytest.raises((UsageError, DataError), match="class folders"):
        train_backbone("alexnet", tmp_path / "taken", tmp_path / "y", SETTINGS)
    assert not (tmp_path / "x").exists()
