"""The progress bar on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(total: int, start: int = 0, unit: str = "epoch") -> Iterator[Any]:
    """A progress bar over so many steps, with speed and time left, on a terminal only; log lines go above it."""
    from tqdm import tqdm

    hidden = sys.stderr is None or not sys.stderr.isatty()
    with tqdm(total=total, initial=start, unit=unit, disable=hidden, dynamic_ncols=True) as bar:
        if bar.disable:
            yield bar
        else:
            from tqdm.contrib.logging import logging_redirect_tqdm  # it warns in a notebook without widgets

            with logging_redirect_tqdm():
                yield bar
