"""`python -m boards count|...`: see `make help`."""

from __future__ import annotations

import argparse
import sys

from . import compare, count, packages, size

COMMANDS = {"compare": compare, "count": count, "packages": packages, "size": size}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m boards", description="Run the runtime on emulated boards.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        text = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=text, description=module.__doc__))
    args = parser.parse_args()
    return COMMANDS[args.command].main(args)


if __name__ == "__main__":
    sys.exit(main())
