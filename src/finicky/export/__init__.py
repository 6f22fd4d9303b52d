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

__all__ = [
    "HEAD_TOLERANCE",
    "TOLERANCE",
    "Classifier",
    "Parity",
    "check_parity",
    "export_onnx",
    "read_metadata",
]
