"""From a network to files that other programs run: formats, each in a module of its own, and a verified folder."""

from mobilenext.export.formats import FORMATS, ONNX_PACKAGES, Format

__all__ = ["FORMATS", "ONNX_PACKAGES", "Format"]
