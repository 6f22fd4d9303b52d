"""Training after the cut: head and network together, or the same shape from scratch.

A pruned network starts with the logistic head that its frozen features allow; training goes on from
there, with the masks as a second teacher where there are masks (`MaskLoss`) and the unpruned
network as a third where it is given (`Soft`). Validation chooses the epoch that is kept, the start
included: the last one that cannot be told from the best. A network never leaves measurably worse on
validation than it came.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from finicky.backbones import Backbone, freeze
from finicky.errors import DataError
from finicky.progress import Progress, silent
from finicky.training.features import FeatureKind
from finicky.training.head import LogisticHead
from finicky.training.pixel_head import PixelHead
from finicky.training.tuning.batches import Batch, Batches, MarkedTiles, Soft
from finicky.training.tuning.checkpoint import Checkpoint
from finicky.training.tuning.rates import share_of_peak
from finicky.training.tuning.settings import FinetuneSettings
from finicky.training.tuning.state import (
    Network,
    State,
    fill,
    judge,
    resume,
    start,
    values_of,
    weights_of,
)


@dataclass(frozen=True)
class Trained:
    """A trained network, its head, and how it went.

    Attributes:
        backbone: Frozen, in eval mode, on the CPU.
        head: For features of the kind that was asked for.
        pixel_head: What the auxiliary loss has learnt; ``None`` without it.
        best_epoch: The one that is kept, the last within one standard error of the least score; 0:
            the start.
        validation: Balanced Brier score of every epoch, lower is better, the start first.
        stopped: ``epochs``, ``patience`` or ``time``.
        seconds: That training took, earlier starts included.
    """

    backbone: Backbone
    head: LogisticHead
    pixel_head: PixelHead | None
    best_epoch: int
    validation: tuple[float, ...]
    stopped: str
    seconds: float


def finetune(
    backbone: Backbone,
    train: MarkedTiles,
    validation: MarkedTiles,
    settings: FinetuneSettings = FinetuneSettings(),
    *,
    kind: FeatureKind = "mean+max",
    head: LogisticHead | None = None,
    soft: Soft | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train a network and its head together; the same arguments give the same network.

    Args:
        backbone: Pruned or not, with weights to start from; it is not changed.
        train: To learn from.
        validation: From other photographs, to choose the epoch on and nothing else.
        settings: How to train.
        kind: How the last map becomes a vector.
        head: To start from; fitted to the frozen features by default. ``C`` of it is not used.
        soft: A teacher's answers.
        checkpoint: A file that an interrupted training goes on from; it is written after every
            epoch and removed by nobody but the caller.
        progress: Told of every step.

    Raises:
        DataError: Tiles of only one kind to train or to validate on.
    """
    for tiles, where in ((train, "training"), (validation, "validation")):
        if len(np.unique(tiles.labels)) < 2:
            raise DataError(
                f"training after the cut needs {where} tiles with and without the target: label "
                "more photos"
            )
    with torch.random.fork_rng(devices=[]):
        state = start(backbone, train, settings, kind, head)
        saved = Checkpoint(checkpoint, _about(settings, train, validation, state))
        resume(state, saved)
        _train(state, backbone, train, validation, settings, soft, saved, progress)
    return _finish(state, backbone)


def _train(
    state: State,
    backbone: Backbone,
    train: MarkedTiles,
    validation: MarkedTiles,
    settings: FinetuneSettings,
    soft: Soft | None,
    saved: Checkpoint,
    progress: Progress,
) -> None:
    batches = Batches(backbone, train, soft, settings, state.device)
    if not state.validation:
        judge(state, backbone, validation)
    while not state.stopped:
        began = time.monotonic()
        torch.manual_seed(settings.seed * 100_003 + state.epoch)
        _set_training(state.network, settings.fresh)
        for step, batch in enumerate(batches.epoch(state.epoch)):
            done = state.epoch * batches.steps + step
            total = state.epochs * batches.steps
            for group, peak in zip(state.optimizer.param_groups, state.peaks, strict=True):
                group["lr"] = peak * share_of_peak(done, total)
            _step(state, batch)
            progress("train", done + 1, total)
            late = state.spent + time.monotonic() - began
            if settings.time_s is not None and late > settings.time_s:
                state.stopped = "time"
                break
        state.epoch += 1
        judge(state, backbone, validation)
        state.spent += time.monotonic() - began
        _plan_end(state, settings)
        saved.write(values_of(state))


def _plan_end(state: State, settings: FinetuneSettings) -> None:
    """How many epochs there will be, and whether this was the last."""
    if settings.time_s is not None:
        fitting = int(settings.time_s / (state.spent / state.epoch))
        state.epochs = max(state.epoch, min(settings.epochs, fitting))
    if state.stopped:
        return
    if state.epoch >= state.epochs:
        state.stopped = "epochs" if state.epoch >= settings.epochs else "time"
    elif state.epoch - state.best_epoch >= settings.patience:
        state.stopped = "patience"


def _step(state: State, batch: Batch) -> None:
    network, marks = state.network, state.marks
    if marks is None or batch.masks is None:
        logits, extra = network(batch.x), None
    else:
        last, maps = marks.run(network.body, batch.x)
        logits, extra = network.classify(last), marks.loss(maps, batch.masks)
    each = F.binary_cross_entropy_with_logits(logits, batch.wanted, reduction="none")
    loss = (each * batch.weights).sum() / batch.weights.sum()
    if extra is not None:
        loss = loss + batch.mask_weight * extra
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()


def _set_training(network: Network, fresh: bool) -> None:
    """Normalisation learns its statistics anew only in a network that learns everything anew.

    With few tiles a batch's statistics are noise; a pruned network's were measured on many.
    """
    network.train(fresh)


def _about(
    settings: FinetuneSettings, train: MarkedTiles, validation: MarkedTiles, state: State
) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for tiles in (train, validation):
        for values in (tiles.tiles, tiles.labels, tiles.masks):
            if values is not None:
                digest.update(np.ascontiguousarray(values).data)
    for tensor in weights_of(state).values():
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _finish(state: State, backbone: Backbone) -> Trained:
    fill(state, state.best)
    network, marks = state.network.cpu().eval(), state.marks
    return Trained(
        backbone.with_module(freeze(network.body)),
        network.logistic(),
        None if marks is None else marks.cpu().pixel_head(),
        state.best_epoch,
        tuple(state.validation),
        state.stopped,
        state.spent,
    )
