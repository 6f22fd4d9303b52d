"""ONNX files with preprocessing and head inside, checked against PyTorch."""

from finicky.export.classifier import Classifier
from finicky.export.onnx_file import Parity, check_parity, export_onnx, read_metadata

__all__ = ["Classifier", "Parity", "check_parity", "export_onnx", "read_metadata"]
