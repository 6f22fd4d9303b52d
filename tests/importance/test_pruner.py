"""Our scores in torch-pruning's own pruners, in one step and in several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn

from finicky.backbones import convolutions, load_backbone
from finicky.errors import ShapeError, UsageError
from finicky.importance import MaskImportance

SIZE = 64


def _scores(module: nn.Module) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    layers = convolutions(module, SIZE)
    return {name: random.random(conv.out_channels) for name, conv in layers.items()}


@pytest.mark.parametrize("steps", [1, 3])
def test_torch_pruning_keeps_the_filters_with_the_best_scores(steps: int) -> None:
    """In several steps too: channels are renumbered after each, and the scores must follow."""
    module = load_backbone("alexnet", weights="random").module.requires_grad_(True)
    scores = _scores(module)
    # The biases say which filters stayed.
    for conv in convolutions(module, SIZE).values():
        assert conv.bias is not None
        conv.bias.data.copy_(torch.arange(float(conv.out_channels)))
    pruner = tp.pruner.BasePruner(
        module,
        torch.zeros(1, 3, SIZE, SIZE),
        importance=MaskImportance(module, scores, size=SIZE),
        pruning_ratio=0.5,
        iterative_steps=steps,
    )
    for _ in range(steps):
        pruner.step()
    layers = convolutions(module, SIZE)
    layers.pop("conv5")  # torch-pruning leaves the output of a network alone
    for name, conv in layers.items():
        assert conv.bias is not None
        best = np.sort(np.argsort(-scores[name])[: len(scores[name]) // 2])
        assert conv.bias.tolist() == best.tolist()


def test_coupled_channels_get_the_mean_of_their_producers() -> None:
    module = load_backbone("efficientnet-lite0", weights="random").module.requires_grad_(True)
    layers = convolutions(module, SIZE)
    scores = {name: np.zeros(conv.out_channels) for name, conv in layers.items()}
    first, second = "block3.layers.project", "block4.layers.project"
    scores[first][0], scores[second][1] = 2.0, 4.0
    importance = MaskImportance(module, scores, size=SIZE)
    graph = tp.DependencyGraph().build_dependency(module, torch.zeros(2, 3, SIZE, SIZE))
    group = graph.get_pruning_group(
        layers[first], tp.prune_conv_out_channels, list(range(layers[first].out_channels))
    )
    found = importance(group)
    assert found is not None
    assert found[:3].tolist() == [1, 2, 0]


def test_scores_that_do_not_fit_are_refused() -> None:
    module = load_backbone("alexnet", weights="random").module
    with pytest.raises(ShapeError, match="3 scores for conv1, expected 64"):
        MaskImportance(module, {"conv1": np.zeros(3)})
    with pytest.raises(UsageError, match="conv9, which this network does not have"):
        MaskImportance(module, {"conv9": np.zeros(3)})
