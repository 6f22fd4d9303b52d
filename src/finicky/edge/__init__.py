"""What runs on the device: needs numpy, Pillow and onnxruntime only."""

from finicky.edge.bundle import Bundle, Session, Target, Thresholds, open_bundle

__all__ = ["Bundle", "Session", "Target", "Thresholds", "open_bundle"]
