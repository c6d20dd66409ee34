"""SIGINT and SIGTERM as something to be told of, so that what has begun can be ended well. No torch."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def catching(heard: Callable[[list[int]], Any]) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; heard: called with all so far whenever one comes.

    Only the main thread hears of signals: in another one nothing is collected.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, _: object) -> None:
        caught.append(number)
        heard(caught)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
