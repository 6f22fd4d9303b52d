"""The state of a training, kept without objects."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from finicky.errors import DataError
from finicky.training.stored import read_state, write_state


def test_an_optimizer_s_state_comes_back_bit_equal(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "best": [math.inf, 0.1], "stopped": None}
    write_state(tmp_path / "s.safetensors", state | {"now": network.state_dict()}, about="this")
    found, about = read_state(tmp_path / "s.safetensors")
    assert (about, found["best"], found["stopped"]) == ("this", [math.inf, 0.1], None)
    again = torch.optim.Adam(network.parameters())
    again.load_state_dict(found["optimizer"])
    for key, values in optimizer.state_dict()["state"].items():
        for name, tensor in values.items():
            assert torch.equal(again.state_dict()["state"][key][name], tensor)
    for name, tensor in network.state_dict().items():
        assert torch.equal(found["now"][name], tensor)
        assert found["now"][name].dtype == tensor.dtype
    header = (tmp_path / "s.safetensors").read_bytes()[8:]
    assert json.JSONDecoder().raw_decode(header.decode("latin-1"))[0]["__metadata__"]


def test_a_damaged_state_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    with pytest.raises(DataError, match=r"s\.safetensors is no state of a training"):
        read_state(path)
    write_state(path, {"w": torch.ones(100)})
    whole = path.read_bytes()
    for content in (whole[:100], b"", whole.replace(b'\\"tensor\\"', b'\\"tensoR\\"')):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"s\.safetensors is no state of a training"):
            read_state(path)
