"""A stranger's checkpoint is refused by the name of the part, and nothing in it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.hostile_pickles import hostile_files
from finicky.backbones import load_backbone
from finicky.backbones.state_dict import read_tensors
from finicky.errors import DataError, FinickyError, UnsupportedModelError

# Watches what the interpreter does while each file is read; in a process of its own, because an
# audit hook cannot be taken off again.
_WATCHED = """
import encodings.cp437, json, sys, time
from pathlib import Path
import torch
from finicky.backbones.state_dict import read_tensors
from finicky.errors import FinickyError
events, watching = [], False
FORBIDDEN = ("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "urllib.", "import", "exec")
def hook(event, arguments):
    if not watching:
        return
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if written or event.startswith(FORBIDDEN) and not event.startswith("os.listdir"):
        events.append([event, repr(arguments)[:200]])
sys.addaudithook(hook)
found = {}
for line in sys.stdin:
    path = Path(line.rstrip())
    events.clear()
    start = time.process_time()
    watching = True
    try:
        read_tensors(path)
        answer = ["read", ""]
    except FinickyError as error:
        answer = [type(error).__name__, str(error)]
    except BaseException as error:
        answer = ["UNHANDLED", repr(error)]
    watching = False
    found[str(path)] = [*answer, list(events), time.process_time() - start]
import resource
print(json.dumps([found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limits are POSIX's")
def test_hostile_files_are_refused_by_name_and_run_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    files = hostile_files(tmp_path, canary)
    assert len(files) > 130
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED],
        input="\n".join(str(path) for path, _ in files.values()),
        capture_output=True,
        text=True,
        check=True,
    )
    answers, memory_mb = json.loads(done.stdout)
    wrong = []
    for label, (path, names) in files.items():
        kind, message, events, seconds = answers[str(path)]
        if kind not in ("DataError", "UnsupportedModelError") or names not in message:
            wrong.append((label, kind, message))
        if path.name not in message or "\n" in message or len(message) > 500:
            wrong.append((label, "message", message))
        if events or seconds > 10:
            wrong.append((label, f"{seconds:.1f} s", events))
    assert not wrong, wrong[:5]
    assert not canary.exists()
    assert memory_mb < 1500, memory_mb


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_end_in_tensors_or_one_clear_line(tmp_path: Path, legacy: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    whole = tmp_path / "whole.pth"
    torch.save(network.state_dict(), whole, _use_new_zipfile_serialization=not legacy)
    content = np.frombuffer(whole.read_bytes(), np.uint8)
    refused = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        mutant = content.copy()
        if seed % 2:
            places = random.integers(0, len(mutant), 1 + seed % 9)
            mutant[places] = random.integers(0, 256, len(places), dtype=np.uint8)
        else:
            mutant = mutant[: random.integers(0, len(mutant))]
        path = tmp_path / "mutant.pth"
        path.write_bytes(mutant.tobytes())
        try:
            read_tensors(path)
        except FinickyError as error:
            refused += 1
            assert "mutant.pth" in str(error)
    assert refused > 200


def test_what_is_read_is_the_network_only(tmp_path: Path) -> None:
    """Of 40 MB of an optimizer nothing is read: a wrong byte there does not matter."""
    value = {"state_dict": {"w": torch.ones(4)}, "optimizer": {"big": torch.full((1000,), 7.5)}}
    torch.save(value, tmp_path / "c.pth")
    raw = (tmp_path / "c.pth").read_bytes()
    place = raw.index(np.full(1000, 7.5, np.float32).tobytes())
    (tmp_path / "c.pth").write_bytes(raw[:place] + b"\xff" + raw[place + 1 :])
    assert torch.equal(read_tensors(tmp_path / "c.pth")["w"], torch.ones(4))


def test_the_refusal_says_what_to_do(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pth")
    with pytest.raises(DataError, match=r"whole pickled network \(torch\.nn.*state_dict\(\)"):
        load_backbone(tmp_path / "m.pth", arch="torchvision:resnet18")
    torch.save({"w": torch.eye(2).to_sparse()}, tmp_path / "s.pth")
    with pytest.raises(UnsupportedModelError, match="save plain, dense ones"):
        read_tensors(tmp_path / "s.pth")
