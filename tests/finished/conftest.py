"""For all tests of finished runs."""

from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test
