"""Wheels for processors other than this machine's, built with zig; see `targets.py` for which."""
