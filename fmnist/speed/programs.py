"""A tape's operations as programs: consecutive ones that the native library knows are one call.

Each thread does its own rows of the batch from operation to operation and waits for nobody. Where an operation sums
over rows, or reads what another thread has written, threads wait for one another. So operations are put into as few
groups as their order allows. What the library does not know stays a call of its own, between programs.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor

from fmnist.nn.layers import Dropout
from fmnist.nn.noise import Noise
from fmnist.speed.graphs import Operation
from fmnist.speed.native import Instruction, Program

Span = tuple[int, int, tuple[int, ...]]  # of memory: from byte to byte, and the steps of what lies there
WINDOW = 80  # operations among which an order is looked for
ALONE = (0, 0)  # the kind of an instruction whose outputs threads share out
OPEN = (Dropout.keep_mask, Noise.normal)  # of Python, but they touch no other memory than their arguments


@dataclass
class Known:
    """An instruction and its tensors, the output first.

    kind: (runs, rows) of an operation that each thread does for its own rows, or ALONE.
    """

    instruction: Instruction
    tensors: Sequence[Tensor]
    kind: tuple[int, int]
    reads: list[Span] = field(init=False)
    writes: list[Span] = field(init=False)

    def __post_init__(self) -> None:
        where = [self.instruction.operand[place] for place in range(len(self.tensors))]
        self.reads = [span(x, (at.run, at.feature, at.row)) for x, at in zip(self.tensors, where, strict=True)]
        self.writes = self.reads[:1]


@dataclass
class Foreign:
    """An operation that the library does not know. A function of Python's may touch any memory."""

    operation: Operation
    kind: None = None
    writes: list[Span] = field(init=False)

    def __post_init__(self) -> None:
        f, args, kwargs = self.operation
        hidden = isinstance(f, FunctionType | MethodType) and getattr(f, "__func__", None) not in OPEN
        given = [each for each in (getattr(f, "__self__", None), *args, *kwargs.values()) if isinstance(each, Tensor)]
        self.writes = [(0, 2**64, ())] if hidden or not given else [span(tensor) for tensor in given]

    @property
    def reads(self) -> list[Span]:
        """It is taken to write to all that it is given."""
        return self.writes


def span(x: Tensor, steps: tuple[int, ...] = ()) -> Span:
    """The memory that a tensor lies in. steps: from run to run, from feature to feature, from row to row."""
    last = sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True) if size)
    return x.data_ptr(), x.data_ptr() + (last + 1) * x.element_size(), steps


def meet(some: Sequence[Span], others: Sequence[Span]) -> bool:
    """Whether any of them overlap. Loops, because it is asked thousands of times before the first step of a run."""
    for start, end, _ in some:
        for other_start, other_end, _ in others:
            if start < other_end and other_start < end:
                return True
    return False


def ordered(first: Any, second: Any) -> bool:
    """Whether two operations must stay in their order."""
    both_foreign = first.kind is None and second.kind is None
    return both_foreign or meet(first.writes, second.reads) or meet(second.writes, first.reads)


def crossed(first: Any, second: Any) -> bool:
    """Whether a row of the batch in one operation is another row's memory in the other: threads must wait between."""

    def aligned(one: Span, other: Span) -> bool:
        (run, feature, row), (other_run, other_feature, other_row) = one[2], other[2]
        return (run, row) == (other_run, other_row) and (feature == other_feature or one[0] == other[0])

    pairs = [*itertools.product(first.writes, second.reads), *itertools.product(second.writes, first.reads)]
    return not all(aligned(one, other) for one, other in pairs if meet([one], [other]))


def programs(operations: Sequence[Known | Foreign]) -> list[Operation]:
    """Operations that do the same, in an order that makes few programs with few groups."""
    order, left = Order(operations), list(range(len(operations)))
    found, instructions, tensors = list[Operation](), list[Instruction](), list[Tensor]()

    def end() -> None:
        if instructions:
            found.append((Program(instructions, tuple(tensors)), (), {}))
            instructions.clear()
            tensors.clear()

    while left:
        chosen = order.group(left, None) or order.group(left, operations[left[0]].kind)
        taken = set(chosen)
        left = [place for place in left if place not in taken]
        for number, each in enumerate(operations[place] for place in chosen):
            if isinstance(each, Foreign):
                end()
                found.append(each.operation)
            else:
                each.instruction.alone, each.instruction.waits = each.kind == ALONE, number == 0
                instructions.append(each.instruction)
                tensors.extend(each.tensors)
    end()
    return found


class Order:
    """Which operations must wait for which. Each pair is looked at once, when both are first in one window."""

    def __init__(self, operations: Sequence[Known | Foreign]) -> None:
        self.operations = operations
        self.after = dict[int, int]()  # by place of an operation: a bit for each that must come before it
        self.crossing = dict[int, int]()  # of these, those of its kind that other threads may still be doing

    def _look(self, window: Sequence[int]) -> None:
        for at, place in enumerate(window):
            if place in self.after:
                continue
            second = self.operations[place]
            before = [first for first in window[:at] if ordered(self.operations[first], second)]
            same = [first for first in before if self.operations[first].kind == second.kind is not None]
            if second.kind != ALONE:
                same = [first for first in same if crossed(self.operations[first], second)]
            self.after[place], self.crossing[place] = (sum(1 << first for first in some) for some in (before, same))

    def group(self, left: Sequence[int], kind: tuple[int, int] | None) -> list[int]:
        """The operations of a kind that may be done now, before all others that are left. All by their places."""
        chosen, skipped = 0, 0
        self._look(left[:WINDOW])
        for place in left[:WINDOW]:
            same_kind = self.operations[place].kind == kind
            if same_kind and not self.after[place] & skipped and not self.crossing[place] & chosen:
                chosen |= 1 << place
            else:
                skipped |= 1 << place
        return [place for place in left[:WINDOW] if chosen >> place & 1]
