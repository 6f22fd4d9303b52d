"""A backbone trained from scratch on class folders, as the method's AlexNet was."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.backbones import (
    Backbone,
    Provenance,
    build_module,
    builtin_blueprint,
    freeze,
    save_backbone,
)
from finicky.backbones.backbone import IMAGENET_RGB
from finicky.backbones.registry import ARCHITECTURES
from finicky.data.folders import SampleTable, read_class_folders
from finicky.errors import UsageError, nearest_names
from finicky.files import read_json, sha256_file, write_json
from finicky.progress import Progress, silent
from finicky.spool import Spool
from finicky.training.features import read_tiles
from finicky.training.stored import read_state, write_state

CARD, CHECKPOINT, BEST = "training.json", "checkpoint.safetensors", "best.safetensors"


@dataclass(frozen=True)
class ScratchSettings:
    """How a backbone is trained.

    Attributes:
        size: Side in px that photos are brought to.
        epochs: Passes over the training split.
        batch: Photos in one step.
        learning_rate: Peak, after a linear rise; then a cosine down to 0 (Loshchilov and Hutter
            2016, arXiv:1608.03983).
        weight_decay: Of AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101).
        seed: Of weights, order and augmentation.
    """

    size: int = 96
    epochs: int = 20
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"learning rate must be in (0, 1), got {self.learning_rate:g}")


@dataclass(frozen=True)
class ScratchReport:
    """How it went: the best epoch's balanced accuracy on validation, over all classes."""

    balanced_accuracy: float
    epochs: int
    validation_tiles: int


@dataclass
class _State:
    """What an interrupted training needs to go on as if nothing had happened."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    epoch: int = 0
    best: float = -1.0


def train_backbone(
    name: str,
    data: Path,
    out: Path,
    settings: ScratchSettings = ScratchSettings(),
    *,
    split_file: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> ScratchReport:
    """Train a built-in architecture on class folders and write it as a backbone folder.

    The weights kept are those of the epoch with the best balanced accuracy on validation; the test
    split is never looked at. Interrupted, the same call goes on after the last finished epoch.

    Args:
        name: A built-in architecture.
        data: Class folders; see `read_class_folders`.
        out: New folder, or that of the same training, interrupted.
        settings: How to train.
        split_file: See `read_class_folders`.
        force: Throw away another training that lies in ``out``.
        progress: Told of each step.
    """
    if name not in ARCHITECTURES:
        raise UsageError(f"no architecture named {name!r}. {nearest_names(name, ARCHITECTURES)}")
    if settings.size < ARCHITECTURES[name].min_size:
        raise UsageError(
            f"{name} needs photos of at least {ARCHITECTURES[name].min_size} px, got "
            f"{settings.size}"
        )
    table = read_class_folders(data, split_file=split_file, seed=settings.seed)
    card = {
        "architecture": name,
        "settings": asdict(settings),
        "photos": len(table.samples),
        "data_sha256": _fingerprint(table),
    }
    _claim(out, card, force)
    classes = sorted({s.label for s in table.samples})
    with Spool() as spool:
        photos = read_tiles(
            [s.path for s in table.samples], spool, size=settings.size, progress=progress
        )
        labels = np.array([classes.index(s.label) for s in table.samples])
        state = _start(name, len(classes), len(_rows(table, "train")), settings)
        _resume(state, out)
        with torch.random.fork_rng(devices=[]):
            _train(state, photos, labels, table, settings, out, progress)
    held_out = len(_rows(table, "validation"))
    _finish(name, data, out, state, settings)
    return ScratchReport(state.best, settings.epochs, held_out)


def _train(
    state: _State,
    photos: np.ndarray,
    labels: np.ndarray,
    table: SampleTable,
    settings: ScratchSettings,
    out: Path,
    progress: Progress,
) -> None:
    train, held_out = _rows(table, "train"), _rows(table, "validation")
    weights = _class_weights(labels[train])
    steps = -(-len(train) // settings.batch)
    while state.epoch < settings.epochs:
        torch.manual_seed(settings.seed * 100_003 + state.epoch)
        state.model.train()
        for step, rows in enumerate(_shuffled(train, settings, state.epoch)):
            x = _augment(IMAGENET_RGB(torch.from_numpy(np.array(photos[rows]))))
            loss = F.cross_entropy(state.model(x), torch.from_numpy(labels[rows]), weight=weights)
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
            state.optimizer.step()
            state.schedule.step()
            done = state.epoch * steps + step + 1
            progress("train", done, settings.epochs * steps)
        state.epoch += 1
        score = _balanced_accuracy(state.model, photos, labels, held_out, settings.batch)
        if score > state.best:
            state.best = score
            _save_best(state, out)
        _save_checkpoint(state, out)


def _start(name: str, classes: int, rows: int, settings: ScratchSettings) -> _State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        body = ARCHITECTURES[name].build()
        for layer in body.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        with torch.no_grad():
            width = body.eval()(torch.zeros(1, 3, settings.size, settings.size)).shape[1]
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2))
        head.append(nn.Linear(width, classes))
        model = nn.Sequential(body, head)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * -(-rows // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, steps=steps))
    return _State(model, optimizer, schedule)


def _rate(step: int, *, steps: int) -> float:
    """Share of the peak rate: up in a line for a fifth of the steps, then down in a half cosine."""
    rise = max(1, steps // 5)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))


def _augment(x: Tensor) -> Tensor:
    """What a surface looks like from elsewhere and in other light: turned, mirrored, dimmed."""
    if torch.rand(()) < 0.5:
        x = x.flip(3)
    if x.shape[2] == x.shape[3]:
        x = torch.rot90(x, int(torch.randint(4, ())), (2, 3))
    gain = 1 + 0.2 * (2 * torch.rand(len(x), 1, 1, 1) - 1)
    shift = 0.3 * (2 * torch.rand(len(x), 1, 1, 1) - 1)
    return (x * gain + shift).contiguous(memory_format=torch.channels_last)


def _shuffled(rows: np.ndarray, settings: ScratchSettings, epoch: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng([settings.seed, epoch]).permutation(rows)
    for start in range(0, len(order), settings.batch):
        yield np.sort(order[start : start + settings.batch])


def _class_weights(labels: np.ndarray) -> Tensor:
    counts = np.bincount(labels)
    return torch.tensor(len(labels) / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)


def _balanced_accuracy(
    model: nn.Module, photos: np.ndarray, labels: np.ndarray, rows: np.ndarray, batch: int
) -> float:
    model.eval()
    answers = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            answers.append(model(IMAGENET_RGB(torch.from_numpy(np.array(photos[part])))).argmax(1))
    found, truth = torch.cat(answers).numpy(), labels[rows]
    return float(np.mean([(found[truth == c] == c).mean() for c in np.unique(truth)]))


def _rows(table: SampleTable, split: str) -> np.ndarray:
    return np.array([i for i, s in enumerate(table.samples) if s.split == split])


def _fingerprint(table: SampleTable) -> str:
    """Of what was learnt from: every photo's bytes, class and split."""
    digest = hashlib.sha256()
    for sample in table.samples:
        line = f"{sample.path.name}\n{sample.label}\n{sample.split}\n{sha256_file(sample.path)}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _claim(out: Path, card: dict[str, Any], force: bool) -> None:
    path = out / CARD
    if (out / "backbone.json").is_file() and not force and read_json(path) == card:
        raise UsageError(f"{out} is finished: use it with --backbone, or --force to train again")
    if path.is_file() and read_json(path) != card:
        if not force:
            raise UsageError(
                f"{out} holds another training: choose another --out folder, or --force"
            )
        for name in (CHECKPOINT, BEST, "backbone.json", "model.safetensors"):
            (out / name).unlink(missing_ok=True)
    elif not path.is_file() and out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: choose a new --out folder")
    write_json(path, card)


def _save_best(state: _State, out: Path) -> None:
    write_state(out / BEST, state.model[0].state_dict())  # type: ignore[index]


def _save_checkpoint(state: _State, out: Path) -> None:
    value = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": state.schedule.state_dict(),
        "epoch": state.epoch,
        "best": state.best,
    }
    write_state(out / CHECKPOINT, value)


def _resume(state: _State, out: Path) -> None:
    if not (out / CHECKPOINT).is_file():
        return
    value, _ = read_state(out / CHECKPOINT)
    state.model.load_state_dict(value["model"])
    state.optimizer.load_state_dict(value["optimizer"])
    state.schedule.load_state_dict(value["schedule"])
    state.epoch, state.best = value["epoch"], value["best"]


def _finish(name: str, data: Path, out: Path, state: _State, settings: ScratchSettings) -> None:
    module = build_module(name)
    module.load_state_dict(read_state(out / BEST)[0])
    source = (
        f"trained from scratch on {data.resolve().name}: {settings.epochs} epochs at "
        f"{settings.size} px, seed {settings.seed}; balanced accuracy {state.best:.3f} on "
        "validation"
    )
    provenance = Provenance(source, "as the training photos allow")
    backbone = Backbone(
        name,
        freeze(module),
        IMAGENET_RGB,
        provenance,
        ARCHITECTURES[name].min_size,
        builtin_blueprint(name),
    )
    save_backbone(backbone, out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    (out / BEST).unlink(missing_ok=True)
