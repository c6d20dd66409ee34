"""Operations captured as CUDA graphs: what the device can repeat by itself is launched at once."""

import logging
from collections.abc import Callable, Sequence
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
        """What does them; they are not done yet. Raises RuntimeError for operations that cannot be captured."""


class CudaGraphs:
    """See Capture. The graphs of one step share their memory: they are replayed one after another."""

    def __init__(self) -> None:
        self.pool: Any = None

    def warm_up(self, operations: Sequence[Operation]) -> None:
        """On a stream of its own, as graphs are captured: there libraries set up what they need."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            perform(operations)
        torch.cuda.current_stream().wait_stream(stream)

    def __call__(self, operations: Sequence[Operation]) -> Callable[[], object]:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                perform(operations)
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own
        return graph.replay


def capture_on(device: torch.device) -> Capture | None:
    """How operations are captured on a device; None where they are done one by one."""
    return CudaGraphs() if device.type == "cuda" else None


def perform(operations: Sequence[Operation]) -> None:
    """Do them one by one."""
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
