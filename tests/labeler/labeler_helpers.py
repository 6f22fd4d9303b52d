"""A project, a running labeler and a browser, for the tests of the labeler."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from finicky.classes import DEFAULT_CLASSES
from finicky.labeler import Workplace


def make_project(root: Path, *, photos: int = 2, width: int = 200, height: int = 120) -> Workplace:
    """A folder with light grey photos, each with a dark loop and a bright dot."""
    (root / "photos").mkdir(parents=True)
    (root / "masks").mkdir()
    for number in range(photos):
        rng = np.random.default_rng(number)
        grey = rng.integers(170, 200, (height, width))
        grey[30:90, 40:43] = grey[30:90, 97:100] = 40  # a closed loop
        grey[30:33, 40:100] = grey[87:90, 40:100] = 50
        grey[10:16, 150:160] = 90
        rgb = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
        Image.fromarray(rgb).save(root / "photos" / f"photo {number}.png")
    return workplace(root)


def workplace(root: Path) -> Workplace:
    """The project of a folder."""
    return Workplace(root, root / "photos", root / "masks", DEFAULT_CLASSES)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """The labeler as its own process, to be killed and started again on the same port."""

    def __init__(self, root: Path, port: int | None = None) -> None:
        self.root = root
        self.port = port or free_port()
        self.process: subprocess.Popen[str] | None = None

    def start(self, before: str = "") -> str:
        """Start it and give the link that opens it; ``before`` is run in its process first."""
        program = f"{before}\nfrom finicky.cli import main; main()"
        command = [sys.executable, "-c", program, "label", str(self.root)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--no-browser"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        link = self.process.stdout.readline().strip()
        assert link.startswith("http://127.0.0.1:"), f"the labeler did not start: {link!r}"
        return link

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        if self.process is not None:
            self.process.kill()  # SIGKILL
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


def stored_ids(root: Path, photo: str) -> np.ndarray:
    """The class ids of a photo's mask file."""
    with Image.open(root / "masks" / f"{photo}.png") as image:
        assert image.mode == "P"
        return np.array(image)
