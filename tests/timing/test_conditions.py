import getpass
import json
import platform
import subprocess
import sys
from importlib import metadata

import numpy as np

import finicky
from finicky.timing import environment
from finicky.timing.conditions import cpu_name


def test_environment_tells_versions_and_machine():
    found = environment()
    assert found["numpy"] == np.__version__
    assert found["scikit-learn"] == metadata.version("scikit-learn")
    assert found["finicky"] == finicky.__version__
    assert found["python"] == platform.python_version()
    assert found["cpu"] == cpu_name() != ""
    assert isinstance(found["cores"], int) and found["cores"] >= 1
    json.dumps(found, allow_nan=False)


def test_environment_leaves_out_what_is_not_installed(monkeypatch):
    def version(name):
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    found = environment()
    assert "torch" not in found
    assert found["onnxruntime"] == "1.0"


def test_environment_names_neither_host_nor_user(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    text = json.dumps(environment())
    assert "secret-host" not in text
    assert f"/{getpass.getuser()}/" not in text


def test_processor_falls_back_to_the_architecture(monkeypatch):
    def missing():
        raise FileNotFoundError

    monkeypatch.setattr("finicky.timing.conditions._linux_name", missing)
    monkeypatch.setattr("finicky.timing.conditions._windows_name", missing)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert cpu_name() == "riscv64"


def test_evaluation_is_light_to_import():
    heavy = "{'torch', 'onnxruntime', 'sklearn', 'matplotlib', 'scipy'}"
    code = f"import sys, finicky.timing; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
