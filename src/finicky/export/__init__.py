"""ONNX files with preprocessing and head inside, checked against PyTorch."""

from finicky.export.classifier import Classifier
from finicky.export.onnx_file import (
    HEAD_TOLERANCE,
    TOLERANCE,
    Parity,
    check_parity,
    export_onnx,
    read_metadata,
)
from finicky.export.steady import ExportedMap, export_map

__all__ = [
    "HEAD_TOLERANCE",
    "TOLERANCE",
    "Classifier",
    "ExportedMap",
    "Parity",
    "check_parity",
    "export_map",
    "export_onnx",
    "read_metadata",
]
