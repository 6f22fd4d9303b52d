"""What changes while a network is trained, how it starts, and how it is kept."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finicky.backbones import Backbone
from finicky.spool import Spool
from finicky.training.features import FeatureKind, Features, extract
from finicky.training.head import LogisticHead, refit_head
from finicky.training.tuning.batches import MarkedTiles
from finicky.training.tuning.checkpoint import Checkpoint
from finicky.training.tuning.fresh import fresh_weights
from finicky.training.tuning.mask_loss import MaskLoss
from finicky.training.tuning.rates import rates_by_layer
from finicky.training.tuning.settings import FinetuneSettings

SAMPLE = 64


class Network(nn.Module):
    """Backbone, pooled features on a common scale, and one logit."""

    mean: Tensor
    scale: Tensor

    def __init__(self, module: nn.Module, kind: FeatureKind, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.body, self.pool = module, Features(kind)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.head = nn.Linear(len(mean), 1)

    def classify(self, last: Tensor) -> Tensor:
        return self.head((self.pool(last) - self.mean) / self.scale)[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.body(x))

    def logistic(self) -> LogisticHead:
        """The last layer on features as they are."""
        with torch.no_grad():
            weight = self.head.weight[0].double() / self.scale.double()
            bias = float(self.head.bias) - float(weight @ self.mean.double())
        return LogisticHead(weight.float().cpu().numpy(), bias, float("nan"), float("nan"))


@dataclass
class State:
    """What changes while a network is trained."""

    network: Network
    marks: MaskLoss | None
    optimizer: torch.optim.Optimizer
    peaks: tuple[float, ...]
    device: torch.device
    epoch: int = 0
    epochs: int = 0
    spent: float = 0.0
    validation: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    stopped: str = ""

    @property
    def best_epoch(self) -> int:
        """The last epoch within one standard error of the least score.

        Few validation tiles tell epochs apart badly: of twenty that are alike, the least is an
        accident, and the one that learnt longest is the better bet (Breiman et al. 1984,
        "Classification and Regression Trees", section 3.4.3, has the rule for the simpler tree).
        """
        least = int(np.argmin(self.validation))
        limit = self.validation[least] + self.errors[least]
        return max(i for i, score in enumerate(self.validation) if score <= limit)


def start(
    backbone: Backbone,
    train: MarkedTiles,
    settings: FinetuneSettings,
    kind: FeatureKind,
    head: LogisticHead | None,
) -> State:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = np.random.default_rng(settings.seed).permutation(len(train.tiles))[:SAMPLE]
    sample = backbone.preprocessing(torch.from_numpy(np.array(train.tiles[rows])))
    if settings.fresh:
        fresh = fresh_weights(backbone.module, sample, seed=settings.seed)
        backbone, head = backbone.with_module(fresh), None
    module = deepcopy(backbone.module)
    vectors = _vectors(backbone, train.tiles, kind)
    mean, scale = vectors.mean(0), vectors.std(0)
    scale = np.maximum(scale, 1e-3 * np.abs(mean) + 1e-2 * scale.mean() + 1e-9)
    if head is None:
        head = refit_head((vectors - mean) / scale, train.labels, C=0.01)
        weight, bias = head.weight.astype(np.float64), head.bias
    else:
        weight, bias = head.weight * scale, head.bias + float(head.weight @ mean)
    network = Network(module, kind, *(torch.from_numpy(v).float() for v in (mean, scale)))
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(np.asarray(weight))[None])
        network.head.bias.fill_(bias)
    module.requires_grad_(True)
    marks = None
    if train.masks is not None and settings.mask_weight > 0:
        share = float((train.masks == 1).mean())
        share = min(max(share, 1e-4), 0.5)
        marks = MaskLoss(module, size=train.tiles.shape[1], sample=sample, share=share)
    groups = rates_by_layer(network, network.head, marks, sample, rate=settings.rate)
    parts: list[nn.Module] = [network] if marks is None else [network, marks]
    for part in parts:
        part.to(device)
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    peaks = tuple(group["lr"] for group in optimizer.param_groups)
    return State(network, marks, optimizer, peaks, device, epochs=settings.epochs)


def _vectors(backbone: Backbone, tiles: np.ndarray, kind: FeatureKind) -> np.ndarray:
    with Spool() as spool:
        return np.array(extract(backbone, tiles, spool, kind=kind), np.float64)


@torch.no_grad()
def judge(state: State, backbone: Backbone, validation: MarkedTiles) -> None:
    """Balanced Brier score: mean squared error of the probabilities, both classes alike."""
    state.network.eval()
    answers = []
    for start in range(0, len(validation.labels), 64):
        photos = torch.from_numpy(np.array(validation.tiles[start : start + 64]))
        inputs = backbone.preprocessing(photos).to(state.device)
        answers.append(state.network(inputs).sigmoid().cpu())
    wrong = (torch.cat(answers).double().numpy() - validation.labels) ** 2
    parts = [wrong[validation.labels == c] for c in (0, 1)]
    score = float(np.mean([part.mean() for part in parts]))
    spread = math.sqrt(sum(part.var() / len(part) for part in parts)) / 2
    state.validation.append(score if math.isfinite(score) else math.inf)
    state.errors.append(spread if math.isfinite(spread) else 0.0)
    if state.best_epoch == len(state.validation) - 1:
        state.best = weights_of(state)


def weights_of(state: State) -> dict[str, Tensor]:
    parts = {"network": state.network, **({} if state.marks is None else {"marks": state.marks})}
    return {
        f"{title}.{name}": tensor.detach().cpu().clone()
        for title, part in parts.items()
        for name, tensor in part.state_dict().items()
    }


def values_of(state: State) -> dict[str, Any]:
    """All of it as tensors and plain values."""
    return {
        "now": weights_of(state),
        "best": state.best,
        "optimizer": state.optimizer.state_dict(),
        "epoch": state.epoch,
        "epochs": state.epochs,
        "spent": state.spent,
        "validation": state.validation,
        "errors": state.errors,
        "stopped": state.stopped,
    }


def resume(state: State, saved: Checkpoint) -> None:
    value = saved.read()
    if value is None:
        return
    fill(state, value["now"])
    state.optimizer.load_state_dict(value["optimizer"])
    state.best = value["best"]
    state.validation, state.errors = value["validation"], value["errors"]
    state.epoch, state.epochs, state.spent = value["epoch"], value["epochs"], value["spent"]
    state.stopped = value["stopped"]


def fill(state: State, weights: dict[str, Tensor]) -> None:
    parts = {"network": state.network, "marks": state.marks}
    for title, part in parts.items():
        if part is not None:
            start = f"{title}."
            part.load_state_dict(
                {k[len(start) :]: v for k, v in weights.items() if k.startswith(start)}
            )
