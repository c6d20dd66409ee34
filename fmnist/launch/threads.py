"""Commands that import torch at their beginning import this before: see `fmnist.launch.machine.set_threads`."""

from fmnist.launch.machine import set_threads

set_threads()
