"""Memory beside a page that nobody may touch: what reads or writes outside its buffers ends its process.

`python -m speed.guards NAME PLACE` tries the cases of a native function with all its buffers there. It prints each one
before.
"""

import ctypes
import itertools
import math
import mmap
import sys

PLACES = ("before", "behind")
PROT_NONE = 0


def guarded(size: int, place: str) -> memoryview:
    """So many bytes that end just before a forbidden page, or begin just behind one. Both sides have one."""
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    room = max(page, math.ceil(size / page) * page)
    memory = mmap.mmap(-1, room + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (start, start + page + room):
        if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = page + room - size if place == "before" else page
    return memoryview(memory)[first : first + size]


def empty(*shape, dtype, place):
    """A tensor there."""
    import torch

    count = math.prod(shape)
    return torch.frombuffer(guarded(count * dtype.itemsize, place), dtype=dtype, count=count).view(shape)


def copied(tensor, place):
    """A copy of a tensor there."""
    return empty(*tensor.shape, dtype=tensor.dtype, place=place).copy_(tensor)


def try_integers(place):
    """Products by integers.c, of odd shapes."""
    import torch

    from fmnist.nn.layers import product_with_images
    from fmnist.speed.integers import Digits

    def new(size, dtype):
        return empty(size, dtype=dtype, place=place)

    generator = torch.Generator().manual_seed(0)
    for shape, along_pixels, keep, shared in itertools.product(
        [(1, 1, 1), (1, 17, 65), (3, 16, 64), (3, 33, 129), (4, 10, 100)], *[(True, False)] * 3
    ):
        for columns in (1, 16, 79):
            print(shape, columns, "along pixels" if along_pixels else "along images", f"{keep=} {shared=}", flush=True)
            runs, _, m = shape
            images = (columns, m) if along_pixels else (m, columns)
            pixels = torch.randint(0, 256, images if shared else (runs, *images), generator=generator)
            pixels = copied(pixels.to(torch.uint8), place)
            a = copied(torch.randn(shape, generator=generator), place)
            out = empty(*shape[:2], columns, dtype=torch.float32, place=place)
            digits = Digits(shape, new, keep)
            digits.multiply(a, pixels, out, along_pixels, add=False)
            if keep:
                digits.multiply(None, pixels, out, along_pixels, add=True)
            expected = (1 + keep) * product_with_images(a, pixels if along_pixels else pixels.mT)
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def try_native(place):
    """Steps of small networks by the native library, of odd shapes: with the formulas' results."""
    import torch

    from fmnist.nn.layers import product_with_images
    from fmnist.speed import native

    generator = torch.Generator().manual_seed(0)
    for n, images, pixels, runs, shared in itertools.product(
        (1, 17, 105), (1, 33, 65), (1, 63, 130), (1, 3), (True, False)
    ):
        print(n, images, pixels, runs, shared, flush=True)
        x = torch.randint(0, 256, (images, pixels) if shared else (runs, images, pixels), generator=generator)
        x = copied(x.to(torch.uint8), place)
        for along_pixels in (True, False):
            a = copied(torch.randn(runs, n, pixels if along_pixels else images, generator=generator), place)
            out = empty(runs, n, images if along_pixels else pixels, dtype=torch.float32, place=place)
            native.multiply_images(a, x, out, along_pixels, add=False)
            expected = product_with_images(a, x if along_pixels else x.mT)
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


TRIED = {"integers": try_integers, "native": try_native}

if __name__ == "__main__":
    TRIED[sys.argv[1]](sys.argv[2])
