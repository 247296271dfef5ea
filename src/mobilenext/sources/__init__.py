"""Weights, an exported folder or an ONNX file, found and made ready to run."""
