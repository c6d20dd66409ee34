"""For all tests of what is seen of runs."""

from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test
