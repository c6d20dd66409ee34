"""Operations captured as CUDA graphs: what the device can repeat by itself is launched at once."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from types import FunctionType, MethodType
from typing import Any, Protocol

import torch

log = logging.getLogger("train")

Operation = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Capture(Protocol):
    """A way to capture operations, whose tensors must outlive what it returns."""

    def warm_up(self, operations: Sequence[Operation]) -> None:
        """Do operations that are to be captured later."""

    def __call__(self, operations: Sequence[Operation]) -> Callable[[], object]:
        """A function that does the operations; this call does not do them. RuntimeError: they cannot be captured."""


class CudaGraphs:
    """See Capture. The graphs of one step share their memory: they are replayed one after another.

    All is done on the device that is asked for and on a stream of its own: a capture on the current device or on the
    default stream would record nothing and say nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool: Any = None
        self.own: Any = None

    @contextmanager
    def _stream(self) -> Iterator[Any]:
        """The stream of capture. It waits for earlier work on the device, and later work waits for it."""
        with torch.cuda.device(self.device):
            self.own = self.own or torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            now = torch.cuda.current_stream(self.device)
            self.own.wait_stream(now)
            try:
                yield self.own
            finally:
                torch.cuda.set_stream(now)  # a capture that fails leaves its own stream current
                now.wait_stream(self.own)

    def warm_up(self, operations: Sequence[Operation]) -> None:
        """Do operations on the stream of capture, where libraries so set up what they need."""
        with self._stream() as stream, torch.cuda.stream(stream):
            perform(operations)

    def __call__(self, operations: Sequence[Operation]) -> Callable[[], object]:
        graph = torch.cuda.CUDAGraph()
        with self._stream() as stream:
            self.pool = self.pool or torch.cuda.graph_pool_handle()
            with torch.cuda.graph(graph, pool=self.pool, stream=stream):
                perform(operations)
        return graph.replay


def capture_on(device: torch.device) -> Capture | None:
    """How operations are captured on a device; None where they are done one by one: on a CPU, and everywhere with
    FMNIST_CUDA_GRAPHS=0."""
    return CudaGraphs(device) if device.type == "cuda" and os.environ.get("FMNIST_CUDA_GRAPHS") != "0" else None


def perform(operations: Sequence[Operation]) -> None:
    """Do operations one by one."""
    for f, args, kwargs in operations:
        f(*args, **kwargs)


def captured(operations: Sequence[Operation], capture: Capture) -> list[Operation]:
    """Do the operations, and return fewer that do the same.

    Functions written in Python stay as they are, between the graphs: they may draw random numbers, count, or choose. So
    do operations that cannot be captured.
    """
    fewer: list[Operation] = []
    for by_torch, group in groupby(operations, lambda each: not isinstance(each[0], FunctionType | MethodType)):
        kept = list(group)
        if by_torch:
            try:
                kept = [(capture(kept), (), {})]
            except RuntimeError as error:
                log.debug(f"{len(kept)} operations are not captured: {error}")
        perform(kept)
        fewer += kept
    return fewer
