"""Boards, emulated: build the runtime for them, run it in QEMU, compare, count and measure. See CONTRIBUTING.md."""
