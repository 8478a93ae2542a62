"""Import ONNX graphs, normalize them for the lowering, and run them with onnxruntime as the reference."""
