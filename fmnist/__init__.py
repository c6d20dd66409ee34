"""A research bench for Fashion-MNIST: hand-made layers, Hydra configs, one training loop, honest records.

One run is understood from these files, in this order: train.py, config/schema, data/dataset, data/batches, nn/layers,
nn/models, nn/losses, nn/optim, nn/step, train/stack, train/run, train/engine.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmnist.library.estimator import Estimator
    from fmnist.library.fitting import fit
    from fmnist.library.model import load

__all__ = ["ROOT", "Estimator", "UserError", "__version__", "fit", "load"]

__version__ = "0.1.0"
ROOT = Path(__file__).parents[1]  # the checkout; in a wheel, the folder of packages


ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}  # of what no line should have in it


class UserError(Exception):
    """A mistake the user can mend: shown as one line that names the knob and what is allowed, exit status 2."""

    def __str__(self) -> str:
        return super().__str__().translate(ESCAPES)  # names of files may have any characters


LIBRARY = {"load": "model", "fit": "fitting", "Estimator": "estimator"}  # by the modules of fmnist.library


def __getattr__(name: str) -> Any:
    """The library's names, imported when they are first asked for: no command waits for torch."""
    if name not in LIBRARY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("fmnist.launch.machine").set_threads()  # before torch and scikit-learn start theirs
    found = getattr(importlib.import_module(f"fmnist.library.{LIBRARY[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *LIBRARY]


def check_locale() -> None:
    """End the process where the locale cannot spell the path of the environment, from which torch is not importable."""
    try:
        sys.prefix.encode()
    except UnicodeEncodeError:
        print(f"error: torch cannot be imported from {sys.prefix!a} in this locale: set PYTHONUTF8=1", file=sys.stderr)
        sys.exit(2)


check_locale()  # before any command imports torch
