"""ONNX files as networks of real layers."""

from finicky.backbones.onnx_graph.reader import build, load

__all__ = ["build", "load"]
