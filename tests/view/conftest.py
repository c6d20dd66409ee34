"""For all tests of what is seen of runs."""

from training import data_kept  # noqa: F401 - a fixture that serves each test
