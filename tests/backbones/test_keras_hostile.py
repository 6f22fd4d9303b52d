"""Keras files from strangers: refused by the name of the part, nothing run, nothing read outside.

Made after the holes that Keras' own loader had: Lambda in .h5 (CVE-2025-9905), module look-up from
config.json (CVE-2025-1550), safe mode turned off by the file (CVE-2025-9906), and so on.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import pytest

from finicky.backbones import Blueprint, build
from finicky.backbones.keras.reader import load
from finicky.errors import DataError, UnsupportedModelError
from support import ROOT

FILES = Path(__file__).parent / "keras_files"
CLEAN = FILES / "strides.keras3.keras"

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource limits")


def clean_config() -> dict[str, Any]:
    with zipfile.ZipFile(CLEAN) as archive:
        return json.loads(archive.read("config.json"))


def write_keras(path: Path, config: Any, extra: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(CLEAN) as archive:
        weights, metadata = archive.read("model.weights.h5"), archive.read("metadata.json")
    text = config if isinstance(config, (str, bytes)) else json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", metadata)
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", weights)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def write_h5(path: Path, config: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights").attrs["layer_names"] = [b"conv"]
    return path


def with_layer(layer: dict[str, Any]) -> dict[str, Any]:
    """The clean network with one more layer at its end."""
    config = deepcopy(clean_config())
    config["config"]["layers"].append({"registered_name": None, **layer})
    return config


def with_setting(key: str, value: Any) -> dict[str, Any]:
    """The clean network, one setting of its first convolution changed."""
    config = deepcopy(clean_config())
    layer = next(x for x in config["config"]["layers"] if x["class_name"] == "Conv2D")
    layer["config"][key] = value
    return config


CODE = {
    "class_name": "__lambda__",
    "config": {"code": "4wEAAAAAAAAAAAAAAAEAAABDAAAA", "defaults": None, "closure": None},
}
LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {"name": "evil", "function": CODE},
}


def _plain_member(name: str) -> Callable[[Path], Path]:
    return lambda path: write_keras(path, clean_config(), {name: b"x"})


def _bomb(path: Path) -> Path:
    write_keras(path, clean_config())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/big.bin", bytes(64 << 20))
    return path


def _duplicate(path: Path) -> Path:
    write_keras(path, clean_config())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", json.dumps(with_layer(LAMBDA)))
    return path


def _huge_json(path: Path) -> Path:
    return write_keras(path, b'{"class_name": "' + b"x" * (100 << 20) + b'"}')


CASES: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "lambda in h5": (
        ".h5",
        lambda p: write_h5(p, with_layer(LAMBDA)),
        r"layer evil is refused: class 'Lambda' is not in",
    ),
    "lambda in keras": (
        ".keras",
        lambda p: write_keras(p, with_layer(LAMBDA)),
        r"layer evil is refused: class 'Lambda' is not in",
    ),
    "turns safe mode off": (
        ".keras",
        lambda p: write_keras(
            p,
            with_layer(
                {
                    "module": "keras.config",
                    "class_name": "enable_unsafe_deserialization",
                    "config": {"name": "off"},
                }
            ),
        ),
        "layer off is refused: class 'enable_unsafe_deserialization'",
    ),
    "arbitrary function": (
        ".keras",
        lambda p: write_keras(
            p,
            with_setting(
                "kernel_initializer",
                {"module": "os", "class_name": "function", "config": "system"},
            ),
        ),
        r"layer conv2d\w* is refused: its kernel_initializer names function of module os",
    ),
    "get_file": (
        ".keras",
        lambda p: write_keras(
            p,
            with_setting(
                "activation",
                {
                    "module": "keras.utils",
                    "class_name": "function",
                    "config": "get_file",
                    "registered_name": "get_file",
                },
            ),
        ),
        r"its activation names function of module keras\.utils",
    ),
    "TFSMLayer": (
        ".keras",
        lambda p: write_keras(
            p,
            with_layer(
                {
                    "module": "keras.layers",
                    "class_name": "TFSMLayer",
                    "config": {"name": "sm", "filepath": "/tmp/saved_model"},
                }
            ),
        ),
        "layer sm is refused: class 'TFSMLayer'",
    ),
    "StringLookup with a path": (
        ".keras",
        lambda p: write_keras(
            p,
            with_layer(
                {
                    "module": "keras.layers",
                    "class_name": "StringLookup",
                    "config": {"name": "words", "vocabulary": "/etc/passwd"},
                }
            ),
        ),
        "layer words is refused: class 'StringLookup'",
    ),
    "custom class under a known name": (
        ".keras",
        lambda p: write_keras(
            p,
            with_layer(
                {
                    "module": "evil_package",
                    "class_name": "Dense",
                    "config": {"name": "mine", "units": 2},
                    "registered_name": "Evil>Dense",
                }
            ),
        ),
        r"layer mine is refused: class 'Dense' of module evil_package",
    ),
    "lambda in a nested model": (
        ".keras",
        lambda p: write_keras(
            p,
            with_layer(
                {
                    "module": "keras",
                    "class_name": "Sequential",
                    "config": {"name": "inner", "layers": [LAMBDA]},
                }
            ),
        ),
        "layer inner/evil is refused: class 'Lambda'",
    ),
    "wrapped layer": (
        ".keras",
        lambda p: write_keras(
            p,
            with_layer(
                {
                    "module": "keras.layers",
                    "class_name": "TimeDistributed",
                    "config": {"name": "wrap", "layer": LAMBDA},
                }
            ),
        ),
        "layer wrap is refused: class 'TimeDistributed'",
    ),
    "activation as a dotted path": (
        ".keras",
        lambda p: write_keras(p, with_setting("activation", "os.system")),
        r"layer conv2d\w* \(Conv2D\): activation=os\.system is refused",
    ),
    "oversize JSON": (".keras", _huge_json, r"member 'config\.json' is refused: it has 104,857,"),
    "deep nesting": (
        ".keras",
        lambda p: write_keras(p, '{"a":' * 10_000 + "1" + "}" * 10_000),
        r"config\.json nests its JSON more than 200 deep",
    ),
    "zip slip": (
        ".keras",
        _plain_member("../../evil.py"),
        r"member '\.\./\.\./evil\.py' is refused: its name leads outside",
    ),
    "zip bomb": (".keras", _bomb, r"member 'assets/big\.bin' is refused: it unpacks"),
    "duplicate members": (".keras", _duplicate, r"member 'config\.json' is refused: it is there 2"),
}


@pytest.mark.parametrize("case", CASES)
def test_hostile_files_are_refused_by_name(case: str, tmp_path: Path) -> None:
    ending, make, message = CASES[case]
    path = make(tmp_path / f"model{ending}")
    start = time.perf_counter()
    with pytest.raises((UnsupportedModelError, DataError), match=message):
        load(path)
    assert time.perf_counter() - start < 10  # under 1 s alone; the machine may be busy


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peaks are read from Linux")
def test_refusals_are_light(tmp_path: Path) -> None:
    """The child's own peak, for the heaviest case: 100 MB of JSON; the bar is 500 MB."""
    _huge_json(tmp_path / "model.keras")
    code = (
        "import sys\n"
        "from finicky.backbones.keras.look import look\n"
        "from pathlib import Path\n"
        "try: look(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print('torch' in sys.modules, status.split('VmHWM:')[1].split()[0])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    error, torch, peak_kb = done.stdout.split()
    assert (error, torch) == ("UnsupportedModelError", "False")
    assert int(peak_kb) < 500_000


def test_the_clean_file_is_clean(tmp_path: Path) -> None:
    """The negative control: what the cases were made from loads."""
    assert load(write_keras(tmp_path / "model.keras", clean_config())).module is not None


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "code in an initializer": (
        with_setting("kernel_initializer", CODE),
        "its kernel_initializer names __lambda__",
    ),
    "an unknown regularizer": (
        with_setting("kernel_regularizer", {"class_name": "Spy", "config": {}}),
        "its kernel_regularizer names Spy, no part of Keras",
    ),
    "an object where none belongs": (
        with_setting("filters", {"module": "builtins", "class_name": "eval", "config": "1"}),
        "its filters names eval of module builtins",
    ),
    "a huge layer": (with_setting("filters", 10**12), "expected a whole number from 1 to"),
    "a huge kernel": (with_setting("kernel_size", [99999, 3]), "whole numbers from 1 to 4,096"),
    "no number": (with_setting("filters", "8"), r"expected a whole number .* got 8"),
    "a negative stride": (with_setting("strides", [-1, 1]), "whole numbers from 1"),
    "more than the file holds": (with_setting("filters", 1 << 19), "its kernel has shape"),
    "a custom model": (
        clean_config() | {"class_name": "MyNetwork"},
        "is a network of class 'MyNetwork'",
    ),
    "a registered model": (
        clean_config() | {"registered_name": "mine>Sequential"},
        "the network is refused: class 'Sequential'",
    ),
    "hidden in the training config": (
        clean_config()
        | {"compile_config": {"loss": {"module": "os", "class_name": "system", "config": "ls"}}},
        "the training config is refused: its loss names system of module os",
    ),
    "not an object": ([], "is no Keras network"),  # type: ignore[dict-item]
    "no layers": ({"class_name": "Sequential", "config": {}}, "its config is damaged: KeyError"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_configs_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    config, message = OTHERS[case]
    path = write_keras(tmp_path / "model.keras", config)
    with pytest.raises((UnsupportedModelError, DataError), match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value) and "model.keras" in str(caught.value)


def test_own_losses_and_metrics_do_not_matter(tmp_path: Path) -> None:
    own = {"module": "builtins", "class_name": "function", "config": "my_loss"}
    config = clean_config() | {"compile_config": {"loss": own, "optimizer": "adam"}}
    assert load(write_keras(tmp_path / "model.keras", config)).module is not None


@pytest.mark.parametrize("name", ["import", "half", "training", "1x", "a.b c", "x" * 300, "ż"])
def test_any_name_of_a_layer_works(name: str, tmp_path: Path) -> None:
    """torch.fx writes names into Python source; none of the file's gets there as it is."""
    config = with_setting("name", name)
    layers = config["config"]["layers"]
    backbone = load(write_keras(tmp_path / "model.keras", config))
    assert len(list(backbone.module.parameters())) == 2 * sum(
        layer["class_name"] == "Conv2D" for layer in layers
    )


def test_a_blueprint_with_code_for_a_name_is_refused() -> None:
    spec = load(CLEAN).blueprint.spec  # type: ignore[union-attr]
    spec["layers"][1][0] = "x(); import os; os.system('ls'); self.x"
    with pytest.raises(DataError, match="is no name of a layer"):
        build(Blueprint("keras", spec))


def test_json_with_nan_or_a_key_twice_is_refused(tmp_path: Path) -> None:
    for text, message in (('{"a": NaN}', "holds NaN"), ('{"a": 1, "a": 2}', "'a' is there twice")):
        with pytest.raises(DataError, match=message):
            load(write_keras(tmp_path / "model.keras", text))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/cron.d/x", "leads outside"),
        ("..\\..\\evil.py", "leads outside"),
        ("C:\\x", "leads outside"),
        ("a/../../b", "leads outside"),
        ("a\nb", "leads outside"),
    ],
)
def test_archive_members_that_lead_outside_are_refused(
    name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        load(_plain_member(name)(tmp_path / "model.keras"))


def test_links_encryption_and_strange_packing_are_refused(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "model.keras", clean_config())
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsupportedModelError, match="'assets/link' is refused: it is a symbolic"):
        load(path)
    with zipfile.ZipFile(write_keras(path, clean_config()), "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("assets/packed", b"x" * 100)
    with pytest.raises(UnsupportedModelError, match="it is packed by method 12"):
        load(path)
    content = bytearray(write_keras(path, clean_config()).read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match="it is encrypted"):
        load(path)


def test_an_archive_without_its_parts_says_which(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UnsupportedModelError, match=r"has no model\.weights\.h5"):
        load(tmp_path / "model.keras")


def test_a_link_inside_the_weights_of_an_archive_is_refused(tmp_path: Path) -> None:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers/conv2d/vars/0"] = h5py.ExternalLink("/etc/passwd", "/x")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(clean_config()))
        archive.writestr("model.weights.h5", weights.getvalue())
    with pytest.raises(UnsupportedModelError, match=r"'layers/conv2d/vars/0' is refused: .*extern"):
        load(tmp_path / "model.keras")


@posix
@pytest.mark.slow
def test_damaged_files_end_in_a_look_or_a_refusal() -> None:
    """400 seeded mutants of all files, each in a child; 5,000: ``benchmarks/keras_mutants.py``."""
    script = ROOT / "benchmarks" / "keras_mutants.py"
    command = [sys.executable, str(script), str(FILES), "--count", "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["looked"] + found["refused"] == found["mutants"] == 400, done.stderr
    assert found["looked"] > 20 and found["refused"] > 100
    assert found["longest_s"] < 10 and found["largest_mb"] < 1000


@pytest.mark.parametrize("length", [100, 2_000, 30_000])
def test_a_truncated_file_is_one_clear_line(length: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    path.write_bytes((FILES / "with_top.keras2.h5").read_bytes()[:length])
    with pytest.raises(DataError, match=r"cut\.h5 is damaged or no HDF5 file"):
        load(path)
