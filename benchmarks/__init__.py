"""Speed beside other runtimes, on this machine: `make bench`."""
