"""An ONNX graph, read and brought into the one normal form that the lowering knows; and the desktop's answer to it."""
