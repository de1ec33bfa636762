"""Importing weights from other libraries, and exporting networks to PyTorch and ONNX."""

from xpnet.interoperation.onnx import export_onnx
from xpnet.interoperation.pytorch import export_pytorch
from xpnet.interoperation.weights import Imported, import_weights

__all__ = ["Imported", "export_onnx", "export_pytorch", "import_weights"]
