"""After the cut, filters that stay stand in for those that went."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from finicky.backbones import Backbone, Provenance, convolutions, load_backbone
from finicky.backbones.alexnet import SameConv2d
from finicky.backbones.backbone import IMAGENET_RGB
from finicky.pruning import cut, find_groups, plan_from_scores
from finicky.training import ReconstructionSettings, Reconstructor, reconstruct
from finicky.training.reconstruct import _patches, _Stepper

SIZE = 64


def test_channel_that_is_a_copy_of_another_is_made_up_for_exactly() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(3, 4, 3, padding=1), relu=nn.ReLU(), conv2=nn.Conv2d(4, 5, 3))
    )
    with torch.no_grad():
        net.conv1.weight[3] = 2 * net.conv1.weight[0]  # type: ignore[index, operator, union-attr]
        net.conv1.bias[3] = 2 * net.conv1.bias[0]  # type: ignore[index, operator, union-attr]
    backbone = _backbone(net)
    x = torch.randn(40, 3, SIZE, SIZE)
    keep = {"conv1": [0, 1, 2], "conv2": [0, 1, 2, 3, 4]}
    smaller = cut(net, {"conv1": keep["conv1"]}, SIZE)
    assert not torch.allclose(smaller(x[:2]), net(x[:2]), atol=1e-2)
    Reconstructor(backbone, x, ReconstructionSettings()).apply(smaller, keep)
    torch.testing.assert_close(smaller(x[:2]), net(x[:2]), atol=0.05, rtol=0.05)


def test_nothing_cut_nothing_changed() -> None:
    backbone = load_backbone("alexnet-bn", weights="random")
    kept = {n: list(range(c.out_channels)) for n, c in convolutions(backbone.module).items()}
    same = cut(backbone.module, {}, SIZE)
    Reconstructor(backbone, torch.randn(8, 3, SIZE, SIZE)).apply(same, kept)
    for name, tensor in backbone.module.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)


def test_rescaled_channels_have_the_mean_and_spread_that_they_had() -> None:
    backbone = load_backbone("alexnet-bn", weights="random")
    random = np.random.default_rng(0)
    scores = {n: random.random(c.out_channels) for n, c in convolutions(backbone.module).items()}
    groups = find_groups(backbone.module, SIZE)
    plan = plan_from_scores(groups, scores, 0.3, backbone="x", criterion="random")
    x = torch.randn(64, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    module = cut(backbone.module, plan.decisions, SIZE)
    Reconstructor(backbone, x).rescale(module, plan.kept)
    layers, smaller = convolutions(backbone.module), convolutions(module)
    last = list(layers)[-1]
    seen: dict[str, torch.Tensor] = {}
    for title, net, conv in (
        ("old", backbone.module, layers[last]),
        ("new", module, smaller[last]),
    ):
        hook = conv.register_forward_hook(lambda _, __, y, t=title: seen.update({t: y}))
        net(x)
        hook.remove()
    old = seen["old"][:, plan.kept[last]]
    for measure in (lambda y: y.mean((0, 2, 3)), lambda y: y.std((0, 2, 3))):
        torch.testing.assert_close(measure(seen["new"]), measure(old), rtol=0.1, atol=0.05)


def test_rescaling_leaves_silent_channels_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3), relu=nn.ReLU()))
    smaller = cut(net, {"conv1": [1, 2, 3]}, SIZE)
    with torch.no_grad():
        smaller.conv1.weight[0] = 0  # type: ignore[index, operator, union-attr]
    Reconstructor(_backbone(net), torch.randn(8, 3, SIZE, SIZE)).rescale(
        smaller, {"conv1": [1, 2, 3]}
    )
    assert float(smaller.conv1.weight[0].abs().sum()) == 0  # type: ignore[index, operator, union-attr]
    torch.testing.assert_close(smaller.conv1.weight[1:], net.conv1.weight[2:])  # type: ignore[index, union-attr]


@pytest.mark.parametrize("name", ["alexnet", "alexnet-bn", "efficientnet-lite0"])
def test_last_responses_come_nearer_to_the_unpruned_ones_on_unseen_tiles(name: str) -> None:
    backbone = load_backbone(name, weights="random")
    random = np.random.default_rng(0)
    layers = convolutions(backbone.module)
    scores = {n: random.random(c.out_channels) for n, c in layers.items()}
    plan = plan_from_scores(
        find_groups(backbone.module, SIZE), scores, 0.5, backbone=name, criterion="random"
    )
    torch.manual_seed(0)
    seen, unseen = torch.randn(48, 3, SIZE, SIZE), torch.randn(8, 3, SIZE, SIZE)
    plain = cut(backbone.module, plan.decisions, SIZE)
    repaired = cut(backbone.module, plan.decisions, SIZE)
    Reconstructor(backbone, seen, ReconstructionSettings(tiles=48)).apply(repaired, plan.kept)
    wanted = backbone.module(unseen)[:, list(plan.kept.values())[-1]]
    errors = [(m(unseen) - wanted).pow(2).mean().item() for m in (plain, repaired)]
    assert errors[1] < 0.5 * errors[0]
    assert not any(p.requires_grad for p in repaired.parameters())


@pytest.mark.parametrize("bias", [True, False])
def test_fit_is_the_ridge_regression_that_its_words_say(
    bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: least squares with the pull towards the old weights as further rows, in float64."""
    monkeypatch.setattr(reconstruct, "RIDGES", (0.3,))
    random = np.random.default_rng(0)
    rows = random.normal(1.0, 1.0, (200, 6))
    conv = nn.Conv2d(6, 4, 1, bias=bias).requires_grad_(False)
    old = conv.weight.flatten(1).T.numpy().astype(float)
    wanted = rows @ (old + random.normal(0, 0.5, old.shape)) + 2.0
    as_tensors = (torch.tensor(a, dtype=torch.float32) for a in (rows, wanted))
    reconstruct._fit_plain(conv, *as_tensors, 50)
    centre, goal = (rows.mean(0), wanted.mean(0)) if bias else (np.zeros(6), np.zeros(4))
    x, y = rows - centre, wanted - goal
    pull = np.sqrt(0.3 * np.diag(x.T @ x).mean()) * np.eye(6)
    expected, *_ = np.linalg.lstsq(np.vstack([x, pull]), np.vstack([y, pull @ old]), rcond=None)
    np.testing.assert_allclose(conv.weight.flatten(1).T.numpy(), expected, atol=1e-5)
    if bias:
        assert conv.bias is not None
        np.testing.assert_allclose(conv.bias.numpy(), goal - centre @ expected, atol=1e-4)


def test_fewer_tiles_are_the_first_ones() -> None:
    backbone = load_backbone("alexnet", weights="random")
    torch.manual_seed(0)
    tiles = torch.randn(40, 3, SIZE, SIZE)
    kept = {n: list(range(0, c.out_channels, 2)) for n, c in convolutions(backbone.module).items()}
    found = []
    # In batches of 32: places are drawn batch by batch, so those of the first 32 are the same.
    for reconstructor in (
        Reconstructor(backbone, tiles).fewer(32),
        Reconstructor(backbone, tiles[:32]),
    ):
        found.append(reconstructor.apply(cut(backbone.module, kept, SIZE), kept).state_dict())
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


def test_same_seed_same_weights() -> None:
    backbone = load_backbone("alexnet", weights="random")
    torch.manual_seed(0)
    tiles = torch.randn(16, 3, SIZE, SIZE)
    kept = {n: list(range(0, c.out_channels, 2)) for n, c in convolutions(backbone.module).items()}
    found = []
    for _ in range(2):
        smaller = cut(backbone.module, kept, SIZE)
        Reconstructor(backbone, tiles).apply(smaller, kept)
        found.append(smaller.state_dict())
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(3, 4, (5, 2), stride=(2, 3), padding=(0, 1)),
        nn.Conv2d(3, 3, 3, stride=2, groups=3),
        SameConv2d(3, 4, 11, stride=4),
        SameConv2d(3, 4, 3, stride=2, bias=False),
    ],
)
def test_patches_are_what_the_convolution_sees(conv: nn.Conv2d) -> None:
    x = torch.randn(2, 3, 23, 31)
    maps = conv(x)
    count = maps.shape[2] * maps.shape[3]
    places = torch.stack([torch.randperm(count)[:7] for _ in range(2)])
    rows = _patches(x, conv, places)
    if conv.groups == 1:
        found = rows.flatten(1) @ conv.weight.flatten(1).T
    else:
        found = (rows * conv.weight[:, 0]).sum((2, 3))
    if conv.bias is not None:
        found = found + conv.bias
    expected = maps.flatten(2).gather(2, places[:, None].expand(-1, maps.shape[1], -1))
    torch.testing.assert_close(found, expected.transpose(1, 2).flatten(0, 1), atol=1e-4, rtol=1e-4)


def test_input_of_an_inner_layer_is_caught() -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1))
    net = nn.Sequential(nn.Conv2d(3, 2, 1), inner, nn.ReLU(), nn.Conv2d(2, 4, 1)).eval()
    x = torch.randn(40, 3, 4, 4)
    stepper = _Stepper(net, x)
    first, second, third = (
        torch.cat(list(stepper.inputs_of(conv))) for conv in (net[0], inner[1], net[3])
    )
    torch.testing.assert_close(first, x)
    torch.testing.assert_close(second, torch.relu(net[0](x)))
    torch.testing.assert_close(third, torch.relu(inner(net[0](x))))
    whole = _Stepper(_Wrapped(net), x)
    torch.testing.assert_close(torch.cat(list(whole.inputs_of(net[3]))), third)


class _Wrapped(nn.Module):
    """A network that is no sequence."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def _backbone(net: nn.Module) -> Backbone:
    return Backbone("mine", net.eval(), IMAGENET_RGB, Provenance("test", "none"), 16)
