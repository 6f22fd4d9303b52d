"""Histograms of responses, and where responses are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from finicky.backbones import convolutions, load_backbone
from finicky.errors import ShapeError
from finicky.importance import ScoringBatch, collect, find_taps
from finicky.importance.statistics import BINS, bin_of


def test_bins_rise_with_the_response_and_all_that_is_not_positive_shares_the_first() -> None:
    strengths = torch.tensor([-5.0, -0.0, 0.0, 1e-6, 1e-3, 0.5, 1.0, 1.1, 2.0, 100.0, 1e9])
    bins = bin_of(strengths).tolist()
    assert bins == sorted(bins)
    assert bins[:4] == [0, 0, 0, 0]
    assert bins[-1] == BINS - 1
    assert len(set(bins[4:])) == 7


def test_statistics_count_every_pixel_once_and_marked_ones_by_coverage() -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(), nn.MaxPool2d(1)).eval()
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    inputs = torch.zeros(1, 3, 2, 2)
    inputs[0, 0] = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
    masks = torch.tensor([[[1.0, 0.25], [0.0, 0.0]]])
    found = _collect(net, [ScoringBatch(inputs, masks)])["0"]
    one, two = bin_of(torch.tensor([1.0, 2.0])).tolist()
    assert found.total[0].nonzero()[0].tolist() == [0, one, two]
    assert found.total[0, [0, one, two]].tolist() == [2, 1, 1]
    assert found.inside[0, [0, one, two]].tolist() == [0.25, 1, 0]


def test_masks_shrink_by_area_so_that_a_thin_crack_is_not_lost() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4), nn.ReLU()).eval()
    masks = torch.zeros(1, 8, 8)
    masks[0, 3, :] = 1
    found = _collect(net, [ScoringBatch(torch.rand(1, 3, 8, 8), masks)])["0"]
    assert found.mask_pixels.tolist() == [0.5, 0.5]
    assert found.pixels.tolist() == [4, 4]


def test_ignored_pixels_count_nowhere() -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU()).eval()
    valid = torch.ones(1, 4, 4)
    valid[0, 0] = 0
    batch = ScoringBatch(torch.rand(1, 3, 4, 4), torch.ones(1, 4, 4), valid)
    found = _collect(net, [batch])["0"]
    assert found.pixels.tolist() == [12]
    assert found.mask_pixels.tolist() == [12]


def test_batches_add_up_whatever_their_size() -> None:
    net = load_backbone("alexnet", weights="random").module
    torch.manual_seed(0)
    inputs, masks = torch.randn(5, 3, 80, 80), (torch.rand(5, 80, 80) < 0.1).float()
    once = _collect(net, [ScoringBatch(inputs, masks)])
    split = _collect(
        net, [ScoringBatch(inputs[:2], masks[:2]), ScoringBatch(inputs[2:], masks[2:])]
    )
    for name, found in once.items():
        # A response on a bin's edge may fall to either side of it: sums are made in another order.
        assert np.abs(found.total - split[name].total).sum() <= 1e-3 * found.total.sum()
        np.testing.assert_allclose(found.mask_pixels, split[name].mask_pixels, rtol=1e-6)


def test_masks_of_another_size_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU()).eval()
    with pytest.raises(ShapeError, match=r"masks \(1, 3, 3\) do not fit"):
        _collect(net, [ScoringBatch(torch.rand(1, 3, 4, 4), torch.ones(1, 3, 3))])


def test_response_is_read_after_normalisation_and_activation() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.MaxPool2d(1)
    ).eval()
    taps = find_taps(net, 8)
    assert taps["0"].module is net[2]
    assert taps["3"].module is net[3]


def test_response_stops_at_the_first_activation() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert find_taps(net, 8)["0"].module is net[1]


def test_shared_activation_is_told_apart_by_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 5, 1), nn.ReLU(True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.b(self.relu(self.a(x))))

    net = Shared().eval()
    taps = find_taps(net, 8)
    assert [(taps[n].module is net.relu, taps[n].call) for n in ("a", "b")] == [
        (True, 0),
        (True, 1),
    ]
    found = _collect(net, [ScoringBatch(torch.rand(1, 3, 4, 4), torch.ones(1, 4, 4))])
    assert {name: len(s.total) for name, s in found.items()} == {"a": 2, "b": 5}


@pytest.mark.parametrize("name", ["vgg16", "alexnet", "alexnet-bn", "efficientnet-lite0"])
def test_every_convolution_of_every_backbone_has_a_response(name: str) -> None:
    module = load_backbone(name, weights="random").module
    assert list(find_taps(module, 64)) == list(convolutions(module, 64))


def _collect(net: nn.Module, batches: list[ScoringBatch]):  # type: ignore[no-untyped-def]
    size = batches[0].inputs.shape[2]
    return collect(net, find_taps(net, size), batches)
