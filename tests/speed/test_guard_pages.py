"""Native functions touch nothing beside their buffers: these lie beside pages that nobody may touch."""

import os
import signal
import subprocess
import sys

import pytest
from forking import module, zygote
from speed.guards import PLACES, TRIED

from fmnist import ROOT
from fmnist.speed import integers, native

FOUND = {"integers": integers.library, "native": native.library}  # what each of them needs
TOUCH = """
import ctypes, sys
from speed.guards import guarded
size = int(sys.argv[1])
memory = guarded(size, sys.argv[2])
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
ctypes.memset(start, 1, size)
print(sum(memory), flush=True)
ctypes.memset(start + {"before": size, "behind": -1}[sys.argv[2]], 1, 1)
"""


def python(*arguments):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, encoding="utf-8")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [1, 4095, 4096, 10_001])
def test_a_byte_beside_such_a_buffer_ends_the_process_and_all_of_the_buffer_may_be_used(size, place):
    done = python("-c", TOUCH, str(size), place)
    assert done.stdout == f"{size}\n", done.stderr
    assert done.returncode == -signal.SIGSEGV


@pytest.mark.few(1)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", TRIED)
def test_a_native_function_touches_nothing_beside_its_buffers(name, place):
    if FOUND[name]() is None:
        pytest.skip("this processor lacks what it needs, or it is not compiled")
    done = zygote().run(module("speed.guards"), name, place, cwd=ROOT)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr}"
