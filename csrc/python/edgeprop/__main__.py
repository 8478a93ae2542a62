"""`python -m edgeprop` is the `edgeprop` command."""

import sys

from edgeprop.export.cli import main

sys.exit(main())
