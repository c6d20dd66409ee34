"""Catches SIGINT (Ctrl-C), SIGTERM and SIGHUP, so that training can finish its epoch and save. No torch."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def catching(on_signal: Callable[[list[int]], Any]) -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP (its terminal is closed), which then do not end the process. on_signal: called
    for each, with all so far. What is ignored, as SIGHUP under nohup, stays ignored.

    Only the main thread gets signals: in any other nothing is collected.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, _: object) -> None:
        caught.append(number)
        on_signal(caught)

    heeded = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
