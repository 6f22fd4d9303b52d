"""Nothing is fetched unless asked for; what is fetched is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from backbones.exporters import CASES
from backbones.onnx_networks import small
from backbones.programs import export_program
from finicky.backbones import weights
from finicky.errors import DataError
from finicky.files import sha256_bytes

# In a process of its own, because an audit hook cannot be taken off again.
_WATCHED = """
import json, sys
from pathlib import Path
from finicky.backbones import load_backbone
from finicky.backbones.state_dict import read_tensors
events = []
def hook(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "os.system", "os.exec")):
        events.append(event)
sys.addaudithook(hook)
for name in sys.argv[1:]:
    path = Path(name)
    state = path.suffix in (".pth", ".safetensors")
    found = read_tensors(path) if state else load_backbone(path).module.state_dict()
    assert found, path
print(json.dumps(events))
"""


def test_reading_model_files_opens_no_connection(tmp_path: Path) -> None:
    onnx.save(CASES["paddle"](), tmp_path / "m.onnx")
    export_program(small(), tmp_path / "m.pt2", side=32)
    torch.save(small().state_dict(), tmp_path / "m.pth")
    save_file(small().state_dict(), tmp_path / "m.safetensors")
    keras = Path(__file__).parent / "keras_files" / "mixed.keras3.keras"
    files = [*sorted(tmp_path.iterdir()), keras]
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, *map(str, files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-800:]
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_download_of_another_hash_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where such a file lies in the cache already, from whomever."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    published = tmp_path / "w.pth"
    published.write_bytes(b"what was published")
    digest = sha256_bytes(published.read_bytes())[:8]
    kept = tmp_path / "cache" / "checkpoints" / "w.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"something else")
    assert weights.download(published.as_uri(), digest) == kept
    assert kept.read_bytes() == published.read_bytes()
    published.write_bytes(b"changed on the way")
    kept.unlink()
    with pytest.raises(DataError, match=r"could not download file:.*invalid hash value"):
        weights.download(published.as_uri(), digest)
    assert not kept.exists()
