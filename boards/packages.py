"""Prints the Debian packages that the boards need: `make boards-setup` installs them."""

from __future__ import annotations

import argparse

from .table import BOARDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def main(args: argparse.Namespace) -> int:
    """Print them on a line."""
    print(*sorted({package for board in BOARDS.values() for package in board.packages}))
    return 0
