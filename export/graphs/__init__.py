"""ONNX graphs: tracing, FP16, splitting at the gate, and the passes over them."""
