"""A bundle is checked before it exists, says what was found, and runs as it was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from finicky.data.surfaces import write_surfaces
from finicky.edge import open_bundle
from finicky.errors import DataError, FinickyError, UsageError
from finicky.export import bundle as bundles
from finicky.export.bundle import BundleOptions, BundleResult, export_bundle
from finicky.export.onnx_file import read_metadata
from finicky.files import sha256_file
from finicky.images import read_image
from finicky.patterns import pattern_tiles
from finicky.project import Project
from finicky.sweep import SweepSettings, run_sweep

QUICK = BundleOptions(seconds=0.05, allow_inexact=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("brücke 7")
    write_surfaces(root / "Fotos März", 16, seed=3, width=256, height=192)
    settings = SweepSettings(
        backbone="alexnet",
        train=("frozen",),
        weights="random",
        keep_ratios=(0.5,),
        tile=64,
        head_seeds=2,
        latency_seconds=0.05,
    )
    run_sweep(Project.open(root / "Fotos März"), root / "run", settings)
    return root / "run"


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> BundleResult:
    return export_bundle(run, tmp_path_factory.mktemp("ausgabe") / "bündel", options=QUICK)


def test_every_file_is_listed_with_its_hash(made: BundleResult) -> None:
    closing = json.loads((made.path / "bundle.json").read_text(encoding="utf-8"))
    inside = {p.name for p in made.path.iterdir()} - {"bundle.json"}
    assert inside == set(closing["files"])
    assert {"model.onnx", "MODEL_CARD.md", "labels.txt", "RUN_ON_PI.md", "SHA256SUMS"} <= inside
    for name, digest in closing["files"].items():
        assert sha256_file(made.path / name) == digest
    assert closing["preferred"] in ("model.onnx", "model.int8.onnx")


def test_deliberate_mistakes_were_noticed(made: BundleResult) -> None:
    parity = made.findings.parity
    assert len(parity.controls) == 4
    assert parity.controls_found == 4
    assert {(c.batch, c.threads, c.optimised) for c in parity.cases} == {
        (b, t, o) for b in (1, 16) for t in (0, 1) for o in (True, False)
    }


def test_the_device_opens_it_and_answers_as_when_it_was_made(made: BundleResult, run: Path) -> None:
    closing = json.loads((made.path / "bundle.json").read_text(encoding="utf-8"))
    opened = open_bundle(made.path)
    found, _ = opened.run(pattern_tiles(opened.tile_px))
    np.testing.assert_allclose(found[:, 1], closing["self_check"][closing["preferred"]], atol=1e-6)
    plain = open_bundle(made.path, model="model.onnx")
    tile = next((run / "tiles" / "test").rglob("*.png"))
    theirs, _ = open_bundle(run).run(read_image(tile)[None])
    ours, _ = plain.run(read_image(tile)[None])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_metadata_survives_in_both_files(made: BundleResult) -> None:
    for name in ("model.onnx", "model.int8.onnx"):
        if (made.path / name).is_file():
            note = read_metadata(made.path / name)
            assert note["schema"] == 2
            assert note["classes"] == ["not crack", "crack"]
            assert note["precision"] == ("int8" if "int8" in name else "float32")
            assert 0 <= note["metrics"]["test"]["accuracy"][0] <= 1


def test_card_says_what_it_must_not_be_used_for(made: BundleResult) -> None:
    card = (made.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "TODO" in card
    assert made.todo
    assert "safe" in card


def test_int8_that_fails_its_limits_is_not_preferred(made: BundleResult) -> None:
    judged = made.findings.judged.get("validation")
    if judged is not None and judged.failures:
        assert made.findings.preferred == "model.onnx"
        assert made.findings.int8_problem
    else:
        assert judged is None or judged.agreement >= 0.99


def test_exact_bundle_is_the_rule(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that disagrees leaves nothing behind, unless that is asked for."""

    def never(*args: object, **kwargs: object) -> object:
        found = verify(*args, **kwargs)  # type: ignore[arg-type]
        return type(found)(found.tiles, 0.0, found.cases, found.controls, found.amplification)

    verify = bundles.verify
    monkeypatch.setattr(bundles, "verify", never)
    with pytest.raises(FinickyError, match="answers differently in ONNX Runtime and PyTorch"):
        export_bundle(run, tmp_path / "b", options=BundleOptions(int8=False, seconds=0))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(made: BundleResult, run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a bundle already"):
        export_bundle(run, made.path, options=QUICK)
    (tmp_path / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files and no bundle"):
        export_bundle(run, tmp_path, options=QUICK, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_bad_runs_and_candidates_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no run\.json"):
        export_bundle(tmp_path, tmp_path / "b")
    with pytest.raises(UsageError, match=r"no candidate 'keep-0\.4'.*keep-0\.5"):
        export_bundle(run, tmp_path / "b", candidate="keep-0.4")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with (copy / "candidates" / "keep-0.5" / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match="not the file that was measured"):
        export_bundle(copy, tmp_path / "b", candidate="keep-0.5")
    assert not (tmp_path / "b").exists()
