"""The usual criteria, which look at no mask: what ours must beat.

torch-pruning's own importances are wrapped where they are right (version 1.6.1). Not used are its
Taylor (leaves out batch normalisation), its activation (keeps the last batch only) and the way its
Hessian gathers gradients (keeps the last sample only); OBD-C needs a classifier of its own form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.backbones import convolutions
from finicky.errors import UsageError
from finicky.importance.evidence import Evidence, Scores
from finicky.pruning.dependencies import traced

# Strength of the penalty on the trial head that losses are taken from, as sklearn's C.
_HEAD_C = 0.01
# The curvature needs a backward pass a tile: so many tiles, both classes in turn, tell enough.
_HESSIAN_TILES = 96


def mean_activation(means: np.ndarray, peaks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean response over all tiles, ``(C,)``.

    Molchanov et al. 2017, arXiv:1611.06440, section 2.2, "Activation".
    """
    del peaks, labels
    return np.asarray(means.mean(0, dtype=np.float64))


def random(evidence: Evidence) -> Scores:
    """Numbers drawn by the seed."""
    draw = np.random.default_rng(evidence.seed)
    layers = convolutions(evidence.module, evidence.size)
    return {name: draw.random(conv.out_channels) for name, conv in layers.items()}


def magnitude(p: int) -> Callable[[Evidence], Scores]:
    """Norm of each filter: Li et al. 2017, arXiv:1608.08710, section 3.1 (``p`` = 1)."""

    def scores(evidence: Evidence) -> Scores:
        layers = convolutions(evidence.module, evidence.size)
        return {n: _numpy(c.weight.flatten(1).norm(p, dim=1)) for n, c in layers.items()}

    return scores


def group_magnitude(evidence: Evidence) -> Scores:
    """L2 norm over everything that goes with a channel: Fang et al. 2023, arXiv:2301.12900."""
    return _by_groups(evidence, tp.importance.GroupMagnitudeImportance(p=2, normalizer=None))


def geometric_median(evidence: Evidence) -> Scores:
    """Summed distance to the layer's other filters: He et al. 2019, FPGM, arXiv:1811.00250."""
    layers = convolutions(evidence.module, evidence.size)
    flat = {name: conv.weight.detach().flatten(1) for name, conv in layers.items()}
    return {name: _numpy(torch.cdist(w, w).sum(1)) for name, w in flat.items()}


def bn_scale(evidence: Evidence) -> Scores:
    """Size of the scale γ of batch normalisation: Liu et al. 2017, arXiv:1708.06519."""
    if not any(isinstance(m, nn.BatchNorm2d) for m in evidence.module.modules()):
        raise UsageError(
            "the criterion bn-scale needs batch normalisation, which this backbone lacks: choose "
            "another criterion, such as l1"
        )
    return _by_groups(evidence, tp.importance.BNScaleImportance(normalizer=None))


def taylor(evidence: Evidence) -> Scores:
    """Squared first-order change of the loss without the channel, mean over tiles.

    Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", CVPR, eq. 8: of a
    gate on each channel, ``(Σ a·∂L/∂a)²`` tile by tile. The loss is that of a logistic head on the
    unpruned network's pooled last map.
    """
    module = deepcopy(evidence.module).requires_grad_(True)
    layers = convolutions(module, evidence.size)
    head = _TrialHead.of(module, evidence)
    total = {name: np.zeros(conv.out_channels) for name, conv in layers.items()}
    count = 0
    for inputs, labels in _labelled(evidence):
        seen: dict[str, Tensor] = {}
        hooks = [c.register_forward_hook(_keep(seen, n)) for n, c in layers.items()]
        try:
            head.losses(module(inputs), labels).sum().backward()
        finally:
            for hook in hooks:
                hook.remove()
        for name, maps in seen.items():
            assert maps.grad is not None
            total[name] += _numpy((maps * maps.grad).sum((2, 3)).pow(2).sum(0))
        module.zero_grad(set_to_none=True)
        count += len(labels)
    return {name: values / max(count, 1) for name, values in total.items()}


def hessian(evidence: Evidence) -> Scores:
    """``Σ w²·E[g²]`` over all weights that go with a channel: optimal brain damage.

    LeCun et al. 1989, eq. 5, with the empirical Fisher information for the curvature, through
    torch-pruning's group form. Gradients are gathered here, tile by tile.
    """
    module = deepcopy(evidence.module).requires_grad_(True)
    head = _TrialHead.of(module, evidence)
    squares = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    tiles = [
        tile for inputs, labels in _labelled(evidence) for tile in zip(inputs, labels, strict=True)
    ]
    by_class = [[t for t in tiles if int(t[1]) == c] for c in (0, 1)]
    few = [t for part in by_class for t in part[: _HESSIAN_TILES // 2]]
    for inputs, label in few:
        module.zero_grad(set_to_none=True)
        head.losses(module(inputs[None]), label[None]).sum().backward()
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                squares[name] += parameter.grad.pow(2)
    for name, parameter in module.named_parameters():
        parameter.grad = squares[name] / max(len(few), 1)
    return _by_groups(evidence, tp.importance.GroupHessianImportance(normalizer=None), module)


class _TrialHead:
    """A logistic head on mean and maximum of the last map; it only serves to have a loss."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        self._weight, self._bias = weight, bias

    @classmethod
    def of(cls, module: nn.Module, evidence: Evidence) -> _TrialHead:
        from sklearn.linear_model import LogisticRegression

        rows, labels = [], []
        with torch.no_grad():
            for inputs, truth in _labelled(evidence):
                rows.append(_pool(module(inputs)).numpy())
                labels.append(truth.numpy())
        x, y = np.concatenate(rows), np.concatenate(labels)
        scale = np.maximum(x.std(0), 1e-6 + 1e-3 * np.abs(x.mean(0)))
        model = LogisticRegression(C=_HEAD_C, class_weight="balanced", max_iter=300)
        model.fit((x - x.mean(0)) / scale, y)
        weight = model.coef_[0] / scale
        bias = float(model.intercept_[0] - weight @ x.mean(0))
        return cls(torch.from_numpy(weight.astype(np.float32)), bias)

    def losses(self, maps: Tensor, labels: Tensor) -> Tensor:
        logits = _pool(maps) @ self._weight + self._bias
        return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")


def _pool(maps: Tensor) -> Tensor:
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    def note(_: nn.Module, __: object, maps: Tensor) -> None:
        maps.retain_grad()
        seen[name] = maps

    return note


def _labelled(evidence: Evidence) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in evidence.tiles():
        assert batch.labels is not None
        yield batch.inputs, torch.tensor(batch.labels)


def _by_groups(
    evidence: Evidence, importance: tp.importance.Importance, module: nn.Module | None = None
) -> Scores:
    """A torch-pruning importance, asked group by group, as scores of every producer."""
    module = module or evidence.module
    layers = {conv: name for name, conv in convolutions(module, evidence.size).items()}
    found: Scores = {}
    with traced(module, evidence.size) as graph:
        for group in graph.get_all_groups(root_module_types=[nn.Conv2d]):
            slots = importance(group)
            for item in group:
                name = layers.get(item.dep.target.module)
                makes = item.dep.handler.__name__ == "prune_out_channels"
                if slots is None or name is None or not makes:
                    continue
                own = found.setdefault(name, np.full(item.dep.target.module.out_channels, np.nan))
                own[np.asarray(item.idxs)] = _numpy(slots)[np.asarray(item.root_idxs)]
    return found


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().numpy()
