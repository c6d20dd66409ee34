"""Other work on the machine: processes that do nothing but run, beside the entrant that is timed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# It ends by itself when the bench has ended, however that ended.
LOOP = """
import os
print("running", flush=True)
while os.getppid() == {parent}:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def busy(count: int) -> Iterator[list[int]]:
    """So many busy loops run during the block, and none after it. Yields their processes' numbers."""
    command = [sys.executable, "-I", "-S", "-c", LOOP.format(parent=os.getpid())]
    with ExitStack() as running:
        loops = []
        for _ in range(count):
            loop = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)  # Ctrl-C is the bench's
            running.enter_context(loop)  # waits
            running.callback(loop.kill)
            loops.append(loop)
        for loop in loops:
            assert loop.stdout is not None
            loop.stdout.readline()
        yield [loop.pid for loop in loops]
