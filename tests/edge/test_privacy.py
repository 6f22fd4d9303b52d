"""Nothing leaves the machine: ONNX Runtime's reporting is off wherever Finicky loads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edge.edge_helpers import dark_bundle


def test_onnx_runtime_reports_nothing(tmp_path: Path) -> None:
    """Version 1.32 writes ``.ses``, the identity it reports under, when that is not turned off."""
    bundle = dark_bundle(tmp_path / "bundle")
    (tmp_path / "tmp").mkdir()
    left = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    code = f"import finicky; finicky.open_bundle({str(bundle)!r}).session(1)"
    environment = {**left, "TMPDIR": str(tmp_path / "tmp")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert list((tmp_path / "tmp").iterdir()) == []
