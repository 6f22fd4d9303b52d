"""Timing a bundle where it is to run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from finicky.cli.app import app
from finicky.edge import bench as benches
from finicky.edge.bench import bench
from finicky.edge.bundle import READY_MADE
from finicky.errors import DataError, UsageError
from finicky.files import sha256_file, write_json


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A bundle whose 8-bit file is the float file once more."""
    folder = tmp_path / "zwei"
    folder.mkdir()
    for name in ("model.onnx", "model.int8.onnx"):
        shutil.copyfile(READY_MADE / "crack-vgg16" / "model.onnx", folder / name)
    digest = sha256_file(folder / "model.onnx")
    files = {"model.onnx": digest, "model.int8.onnx": digest}
    listing = {"schema": 1, "name": "zwei", "preferred": "model.onnx", "files": files}
    write_json(folder / "bundle.json", listing)
    return folder


def test_every_batch_and_number_of_threads_is_timed(two: Path) -> None:
    found = bench(two, batch=2, seconds=0.1)
    ways = {(row.model, row.stats.batch) for row in found.rows}
    assert ways == {(m, b) for m in ("model.onnx", "model.int8.onnx") for b in (1, 2)}
    for row in found.rows:
        assert 0 < row.stats.p50_ms <= row.stats.p95_ms <= row.stats.p99_ms
        assert (row.times_faster is None) == (row.model == found.reference)
    json.dumps(found.to_json())


def test_unpruned_network_is_told_apart(two: Path) -> None:
    other = READY_MADE / "crack-vgg16" / "model.onnx"  # of the same name as the bundle's own
    found = bench(two, against=other, batch=2, seconds=0.05)
    assert found.reference == "unpruned"
    assert [r.model for r in found.rows[:3]] == ["unpruned", "model.onnx", "model.int8.onnx"]


def test_inaccurate_8_bit_file_is_never_advised(two: Path) -> None:
    write_json(two / "verification.json", {"int8_problem": "3 % of tiles changed class"})
    use = bench(two, batch=2, seconds=0.05)
    assert use.use == "model.onnx"
    assert "3 % of tiles" in use.why


def test_faster_8_bit_file_is_advised(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = benches.measure_in_turn

    def faster(*args: object, **kwargs: object) -> object:
        report = real(*args, **kwargs)  # type: ignore[arg-type]
        for one in report.candidates:
            object.__setattr__(one, "ratio", 2.0)
            object.__setattr__(one, "ratio_low", 1.5)
        return report

    monkeypatch.setattr(benches, "measure_in_turn", faster)
    assert bench(two, batch=2, seconds=0.05).use == "model.int8.onnx"


def test_damaged_models_and_numbers_out_of_range_are_refused(two: Path) -> None:
    with pytest.raises(UsageError, match="batch must be at least 2"):
        bench(two, batch=1)
    with (two / "model.int8.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match=r"model\.int8\.onnx"):
        bench(two, batch=2, seconds=0.05)


def test_what_is_no_onnx_file_is_said_plainly(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear model,")
    for arguments in ((letter, None), ("crack-alexnet", letter)):
        with pytest.raises(DataError, match=r"letter\.txt: it is no ONNX file") as raised:
            bench(arguments[0], against=arguments[1], batch=2, seconds=0.05)
        assert "protobuf" not in str(raised.value).lower()


def test_the_command_counts_photos_with_decoding(tmp_path: Path) -> None:
    from PIL import Image
    from typer.testing import CliRunner

    Image.new("RGB", (120, 90), (120, 120, 120)).save(tmp_path / "grau.png")
    done = CliRunner().invoke(
        app,
        ["bench", "crack-vgg16", "--photos", str(tmp_path), "--seconds", "0.05", "--json"],
    )
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["photos"] == 1
    assert value["photos_per_second"] > 0
