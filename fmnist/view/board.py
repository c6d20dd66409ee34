"""Where pictures are shown."""

from collections.abc import Sequence
from typing import Any, Protocol


class Board(Protocol):
    """Where it is shown; see fmnist.mirror.mirror.Mirror."""

    def picture(self, tag: str, png: bytes, step: int) -> None: ...
    def curves(self, tag: str, counts: Any, step: int) -> None: ...
    def graph(self, nodes: Sequence[Any]) -> None: ...
    def embedding(self, points: Any, labels: Sequence[str], thumbnails: Any) -> None: ...

