"""The ceiling of hand-written kernels: LIBXSMM's, in a driver of our own for 784-200-10 by plain SGD."""

import ctypes
import os
import sys
from pathlib import Path

import entrant
import numpy as np


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def main() -> None:
    work = entrant.arguments()
    if work.hidden != [200]:
        sys.exit("the driver of LIBXSMM trains 784-200-10 alone")
    os.environ["OMP_NUM_THREADS"] = str(work.threads)
    x, labels = entrant.load(work)
    first, second = entrant.initial(entrant.layers(work), work.seed)
    net = np.concatenate(
        [first.T.ravel(), np.zeros(len(first)), second.ravel(), np.zeros(len(second))], dtype=np.float32
    )
    bounds = np.cumsum([first.size, len(first), second.size])
    w1, b1, w2, b2 = np.split(net, bounds)  # views
    driver = ctypes.CDLL(str(Path(sys.prefix) / "libxsmm_train.so"))
    driver.prepare.restype = ctypes.c_char_p
    rate = ctypes.c_float(entrant.SGD_RATE)
    if not driver.prepare(work.rows, work.batch, rate, pointer(x), pointer(labels), pointer(net)):
        sys.exit("there is no memory for the images")

    def weights() -> list[np.ndarray]:
        return [w1.reshape(first.shape[::-1]).T, b1, w2.reshape(second.shape), b2]

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product = np.empty_like(a)
        driver.square(len(a), pointer(b), pointer(a), pointer(product))
        return product

    entrant.serve_without_figures(driver.epoch, weights, work, "numpy", product=(np.ascontiguousarray, multiply))


if __name__ == "__main__":
    main()
