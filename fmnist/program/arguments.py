"""What commands are given."""

import os
from argparse import ArgumentTypeError
from pathlib import Path


def typed_path(text: str) -> Path:
    """A path as it was typed, for `type=` of an argument: a shell leaves "~" as it is in quotes and in --x=~/y."""
    return Path(os.path.expanduser(text))


def positive(text: str) -> int:
    """A whole number above 0 as it was typed, for `type=` of an argument."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)
