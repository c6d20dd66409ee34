"""What commands are given."""

import os
from pathlib import Path


def typed_path(text: str) -> Path:
    """A path as it was typed, for `type=` of an argument: a shell leaves "~" as it is in quotes and in --x=~/y."""
    return Path(os.path.expanduser(text))
