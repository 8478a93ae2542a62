"""Fuzzing of the runtime, guided by coverage: `make fuzz`."""
