"""Small faults put into the sources, one at a time, and whether the tests notice: `make mutants`."""
