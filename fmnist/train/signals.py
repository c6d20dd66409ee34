"""Catches SIGINT (Ctrl-C) and SIGTERM, so that training can finish its epoch and save. No torch."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def catching(on_signal: Callable[[list[int]], Any]) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, which then do not end the process. on_signal: called for each, with all so far.

    Only the main thread gets signals: in any other nothing is collected.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, _: object) -> None:
        caught.append(number)
        on_signal(caught)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
