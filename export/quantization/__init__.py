"""Quantize a float32 graph to int8, in QDQ form: calibration, clipping, corrections, and what it costs."""
