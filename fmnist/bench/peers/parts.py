"""Where the time of a training step goes: each operation of the tape timed by itself, as one line of JSON.

Times are the least of many: an operation that is done alone and again finds its operands in the caches.
"""

import json
import time
from collections.abc import Callable

import ours

TURNS = 40
PARTS = {"multiply_images": "products with images", "multiply": "other products", "adam": "optimizer"}


def microseconds(f: Callable[[], object], turns: int) -> float:
    """The least time of some turns."""
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        f()
        taken.append(time.perf_counter() - start)
    return 1e6 * min(taken)


def parts(stack, full: bool) -> dict[str, float]:
    """Microseconds of a step by what they are spent on; their sum is that of a whole step."""
    from fmnist.speed import native
    from fmnist.speed.graphs import perform
    from fmnist.speed.integers import Digits

    turns, step, names = TURNS // 8 if full else TURNS, stack.step, list(native.CODES)
    rate, clip = [1e-3] * len(stack.configs), [None] * len(stack.configs)
    batch = next(stack.feed.epoch(1))
    step(batch, rate, clip)
    found = dict.fromkeys(("products with images", "other products", "all else on the tape", "optimizer"), 0.0)
    call = microseconds(native.Program([], ()), 1000) if native.library() else 0.0
    for operation in next(iter(step.tapes.values()))[0].operations:
        f = operation[0]
        if isinstance(f, native.Program):
            for one in f.list:
                part = PARTS.get(names[one.code], "all else on the tape")
                found[part] += max(0.0, microseconds(native.Program([one], ()), turns) - call)
        else:
            whole = getattr(f, "__func__", None) is Digits.multiply
            name = "products with images" if whole else "all else on the tape"
            found[name] += microseconds(lambda operation=operation: perform([operation]), turns)
    if step.update is None:  # else it is in a program
        found["optimizer"] = microseconds(lambda: stack.optimizer.step(rate), turns)
    found["gathering"] = microseconds(lambda: list(stack.feed.epoch(2)), 5) / stack.feed.count
    whole = microseconds(lambda: step(batch, rate, clip), turns) + found["gathering"]
    return found | {"Python and waiting": max(0.0, whole - sum(found.values()))}


if __name__ == "__main__":
    work = ours.arguments()
    with ours.stack_of(work) as stack:
        stack.train_epoch(1)
        print(json.dumps({"parts": parts(stack, work.full), "steps": work.steps, "kernels": stack.step.settings()}))
