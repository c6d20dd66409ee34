"""A few rows of the data set."""

import pytest
from helpers import make_config

from fmnist.data.dataset import Dataset, load


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """160 training and 40 validation rows."""
    return load(**vars(make_config(**{"data.limit": 200}).data))
