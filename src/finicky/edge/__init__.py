"""What runs on the device: needs numpy, Pillow and onnxruntime only."""

from finicky.edge.bundle import Bundle, Session, Target, Thresholds, open_bundle
from finicky.edge.inspect import Inspected, InspectSettings, inspect_photo, rule_for
from finicky.edge.inspection import PredictResult, predict
from finicky.edge.video import FrameSettings
from finicky.edge.worker import PredictSettings

__all__ = [
    "Bundle",
    "FrameSettings",
    "InspectSettings",
    "Inspected",
    "PredictResult",
    "PredictSettings",
    "Session",
    "Target",
    "Thresholds",
    "inspect_photo",
    "open_bundle",
    "predict",
    "rule_for",
]
