"""What commands are given."""

import math
import os
import re
from argparse import ArgumentTypeError
from pathlib import Path


def typed_path(text: str) -> Path:
    """A path as it was typed, for `type=` of an argument: a shell leaves "~" as it is in quotes and in --x=~/y."""
    return Path(os.path.expanduser(text))


def which_weights(text: str) -> str:
    """Which weights of a run, as typed: "last", "best", "average" or "snapshot-N"; see `fmnist.train.restore`."""
    if not re.fullmatch(r"last|best|average|snapshot-[1-9][0-9]{0,8}", text, re.ASCII):
        raise ArgumentTypeError(f"must be last, best, average or snapshot-N, got {text!r}")
    return text


def above_0(text: str) -> float:
    """A finite number above 0 as it was typed, for `type=` of an argument."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return number


def positive(text: str) -> int:
    """A whole number above 0 as it was typed, for `type=` of an argument."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)
