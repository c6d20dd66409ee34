"""The ceiling: nothing but the matrix products of an epoch, each by the fastest of torch's float32 ways.

Its answers have their seconds, the number of floating-point operations, and the settings that were chosen.
"""

import time
from collections.abc import Callable

import entrant
import torch

FLOAT32_ERROR = 1e-5  # largest error, relative to the largest element, that still is float32 arithmetic
CHUNKS = (3000, 6000)  # rows at a time: a large batch may be faster in chunks whose operands stay in the caches


def float32_settings() -> list[str]:
    """The settings of torch under which products are float32 arithmetic on this machine."""
    a, b = torch.randn(512, 784), torch.randn(784, 300)
    exact = a.double() @ b.double()
    fine = []
    for setting in ("highest", "medium"):
        torch.set_float32_matmul_precision(setting)
        if ((a @ b) - exact).abs().max() / exact.abs().max() <= FLOAT32_ERROR:
            fine.append(setting)
    return fine


def ways(kind: str, out: int, inputs: int, rows: int) -> dict[str, Callable[[], object]]:
    """One layer's product over so many rows, row-major and feature-major: forward, weights' or data's gradient."""
    w, dw, d_flipped = torch.randn(out, inputs), torch.empty(out, inputs), torch.empty(inputs, out)
    x, y = torch.randn(rows, inputs), torch.randn(rows, out)
    xf, yf = torch.randn(inputs, rows), torch.randn(out, rows)
    mm = torch.mm
    return {
        "forward": {
            "rows": lambda: mm(x, w.T, out=y), "features": lambda: mm(w, xf, out=yf),
            "mixed": lambda: mm(w, x.T, out=yf),
        },
        "weights": {
            "rows": lambda: mm(y.T, x, out=dw), "features": lambda: mm(yf, xf.T, out=dw),
            "mixed": lambda: mm(yf, x, out=dw), "flipped": lambda: mm(x.T, y, out=d_flipped),
        },
        "data": {"rows": lambda: mm(y, w, out=x), "features": lambda: mm(w.T, yf, out=xf)},
    }[kind]  # fmt: skip


def seconds(setting: str, product: Callable[[], object], times: int) -> float:
    torch.set_float32_matmul_precision(setting)
    start = time.perf_counter()
    for _ in range(times):
        product()
    return time.perf_counter() - start


def main() -> None:
    work = entrant.arguments()
    torch.set_num_threads(work.threads)
    chosen = []  # of each product of a step: setting, way, calls an epoch
    operations = 0
    settings = float32_settings()
    for depth, (out, inputs) in enumerate(entrant.layers(work)):
        for kind in ("forward", "weights", "data")[: 3 if depth else 2]:
            operations += 2 * out * inputs * work.rows
            tried = []
            for rows in {work.batch, *(chunk for chunk in CHUNKS if chunk < work.batch)}:
                calls = -(-work.rows // rows)
                for way in ways(kind, out, inputs, rows).values():
                    for setting in settings:
                        times = min(calls, 50)
                        seconds(setting, way, 2)
                        best = min(seconds(setting, way, times) for _ in range(3))
                        tried.append((best / times * work.rows / rows, setting, way, calls))
            chosen.append(min(tried, key=lambda entry: entry[0])[1:])

    turns = entrant.Turns("torch", product=(torch.from_numpy, torch.mm))
    while True:
        turns.wait()
        for product in chosen:
            seconds(*product)
        turns.answer(None, None, operations=operations, settings=[setting for setting, *_ in chosen])


if __name__ == "__main__":
    main()
