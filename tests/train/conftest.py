"""For all tests of training."""

from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test
