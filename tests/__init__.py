"""The test suite. Packages only where something is imported: `tests.support` and `tests.e2e.demo`."""
