"""Where pictures are shown, and what becomes of those that cannot be drawn."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol


class Board(Protocol):
    """Where it is shown; see fmnist.mirror.mirror.Mirror."""

    def picture(self, tag: str, png: bytes, step: int) -> None: ...
    def curves(self, tag: str, counts: Any, step: int) -> None: ...
    def graph(self, nodes: Sequence[Any]) -> None: ...
    def embedding(self, points: Any, labels: Sequence[str], thumbnails: Any) -> None: ...


@contextmanager
def warning(log: logging.Logger, name: str) -> Iterator[None]:
    """Make a warning of what keeps a picture from being drawn: the run is trained, and does not fail for want of it."""
    try:
        yield
    except Exception as error:
        log.warning(f"{name} could not be drawn: {type(error).__name__}: {error}")
