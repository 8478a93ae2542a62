"""Speed beside other runtimes, on this machine: `make bench`."""

import os

# One thread each. The libraries read this when they are loaded, so it stands before any of them is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
