"""The conditions of a measurement: processor, system and the versions that took part."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path

from finicky import __version__
from finicky.timing.latency import available_cores

PACKAGES = ("numpy", "onnxruntime", "torch", "torch-pruning", "scikit-learn")


def environment() -> dict[str, str | int]:
    """Processor, logical cores, system, Python and package versions, for ``run.json``.

    Imports none of the packages; one that is not installed is left out. Holds no host name, user
    name or path, so a run folder can be passed on.
    """
    found: dict[str, str | int] = {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "finicky": __version__,
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    try:
        name = _windows_name() if sys.platform == "win32" else _linux_name()
    except OSError:
        name = ""
    return name.strip() or platform.processor() or platform.machine() or "unknown"


def _linux_name() -> str:
    # "model name" on x86, "Model" (the board) or "Hardware" on Arm boards such as a Raspberry Pi.
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    known = {key.strip(): value for key, _, value in (line.partition(":") for line in lines)}
    return next((known[key] for key in ("model name", "Model", "Hardware") if key in known), "")


def _windows_name() -> str:
    if sys.platform != "win32":  # tells the type checker that winreg is not missed elsewhere
        return ""
    import winreg

    place = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
        return str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
