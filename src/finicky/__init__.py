"""Finicky: keep only the filters that look at what matters.

The names below are loaded when they are first used, so that importing this package is instant and
the edge install needs none of what training needs.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from finicky._version import __version__

# ONNX Runtime (1.32 does, on Linux too) reports its use to its makers and writes an
# identity to the temporary folder unless this is set when it is loaded. Nothing of ours may leave
# the machine unasked; whoever wants to report sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from finicky.backbones import Backbone, load_backbone
    from finicky.data.surfaces import make_surface, write_surfaces
    from finicky.doctor import Diagnosis, examine
    from finicky.edge import Bundle, open_bundle, predict
    from finicky.errors import FinickyError
    from finicky.estimator import FinickyClassifier, load
    from finicky.export.bundle import export_bundle
    from finicky.importance import MaskImportance
    from finicky.project import Project
    from finicky.pruned import PrunedModel, prune, prune_many, score_filters
    from finicky.pruning import BackboneDescription, describe_backbone
    from finicky.sweep import Sweep, SweepSettings, run_sweep

_HOMES = {
    "Backbone": "finicky.backbones",
    "BackboneDescription": "finicky.pruning",
    "Bundle": "finicky.edge",
    "Diagnosis": "finicky.doctor",
    "FinickyClassifier": "finicky.estimator",
    "FinickyError": "finicky.errors",
    "Project": "finicky.project",
    "MaskImportance": "finicky.importance",
    "PrunedModel": "finicky.pruned",
    "Sweep": "finicky.sweep",
    "SweepSettings": "finicky.sweep",
    "describe_backbone": "finicky.pruning",
    "examine": "finicky.doctor",
    "export_bundle": "finicky.export.bundle",
    "load": "finicky.estimator",
    "load_backbone": "finicky.backbones",
    "make_surface": "finicky.data.surfaces",
    "open_bundle": "finicky.edge",
    "predict": "finicky.edge",
    "prune": "finicky.pruned",
    "prune_many": "finicky.pruned",
    "run_sweep": "finicky.sweep",
    "score_filters": "finicky.pruned",
    "write_surfaces": "finicky.data.surfaces",
}

__all__ = [
    "Backbone",
    "BackboneDescription",
    "Bundle",
    "Diagnosis",
    "FinickyClassifier",
    "FinickyError",
    "MaskImportance",
    "Project",
    "PrunedModel",
    "Sweep",
    "SweepSettings",
    "__version__",
    "describe_backbone",
    "examine",
    "export_bundle",
    "load",
    "load_backbone",
    "make_surface",
    "open_bundle",
    "predict",
    "prune",
    "prune_many",
    "run_sweep",
    "score_filters",
    "write_surfaces",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'finicky' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
