"""A research bench for Fashion-MNIST: hand-made layers, Hydra configs, one training loop, honest records.

One run is understood from these files, in this order: train.py, config/schema, data/dataset, data/batches, nn/layers,
nn/models, nn/losses, nn/optim, nn/step, train/stack, train/run, train/engine.
"""

import sys
from pathlib import Path

__version__ = "0.1.0"
ROOT = Path(__file__).parents[1]  # the checkout; in a wheel, the folder of packages


ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}  # of what no line should have in it


class UserError(Exception):
    """A mistake the user can mend: shown as one line that names the knob and what is allowed, exit status 2."""

    def __str__(self) -> str:
        return super().__str__().translate(ESCAPES)  # names of files may have any characters


def check_locale() -> None:
    """End the process where the locale cannot spell the path of the environment, from which torch is not importable."""
    try:
        sys.prefix.encode()
    except UnicodeEncodeError:
        print(f"error: torch cannot be imported from {sys.prefix!a} in this locale: set PYTHONUTF8=1", file=sys.stderr)
        sys.exit(2)


check_locale()  # before any command imports torch
