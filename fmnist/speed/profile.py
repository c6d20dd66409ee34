"""A profile of some training steps: a trace that ui.perfetto.dev opens, and a table of the costliest operations.

A step that is not profiled is not touched: names are put around its operations only while the profiler runs. A program
of the native library is then done instruction by instruction, so that each has a name and a time.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from fmnist.nn.step import Step
from fmnist.speed.graphs import Operation
from fmnist.speed.native import CODES, Program
from fmnist.speed.step import TapedStep

WARM, STEPS = 10, 20  # steps before the profiler starts, and while it runs; fewer in a run that has not so many
COSTLIEST = 10  # operations of the table
TRACE = "trace.json.gz"
OPERATIONS = [*CODES]


class Trained(Protocol):
    """What is profiled: a stack, see fmnist.train.stack.Stack."""

    model: nn.Module
    step: Any
    common: Any

    @property
    def feed(self) -> Any: ...


@contextmanager
def profiling(stack: Trained, folder: Path, say: Callable[[str], Any]) -> Iterator[None]:
    """Within it, with profile=true, some of the first steps of a stack are profiled. The trace is written to `folder`;
    `say` is given the lines of the table."""
    if not stack.common.profile:
        yield
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells of devices that are not here
    step, steps = stack.step, stack.feed.count * stack.common.last_epoch
    stack.step = found = Profiled(step, stack.model, min(WARM, steps // 2), folder / TRACE, say)
    try:
        yield
    finally:
        found.end()
        stack.step = step


class Profiled:
    """Stands in for a step, and profiles some of its calls."""

    def __init__(self, step: Step, model: nn.Module, warm: int, file: Path, say: Callable[[str], Any]) -> None:
        self.step, self.model, self.warm, self.file, self.say = step, model, warm, file, say
        self.calls = 0
        self.profiler: Any = None
        self.closing = ExitStack()
        self.names: set[str] = set()
        self.tapes: list[Any] = []  # whose operations have names

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)

    def __call__(self, *given: Any) -> None:
        """See Step."""
        if self.calls == self.warm:
            self._begin()
        with record_function("training step"):
            self.step(*given)
        self.calls += 1
        if self.profiler is not None:
            self._name_operations()  # of tapes that are new
        if self.calls == self.warm + STEPS:
            self.end()

    def _begin(self) -> None:
        cuda = self.step.optimizer.flat.data.is_cuda
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        if isinstance(self.step, TapedStep) and self.step.kernels is not None:
            self._name_operations()
        else:
            self.closing.enter_context(_named_layers(self.model))
        self.profiler = self.closing.enter_context(profile(activities=activities))

    def _name_operations(self) -> None:
        """Until the profiler ends, have the operations of the tapes that are written names in the trace. Those that are
        captured as a graph stay as they are."""
        places = [(x.data_ptr(), x.data_ptr() + x.nbytes, name) for name, x in self._parameters()]
        for tape, _ in getattr(self.step, "tapes", {}).values():
            if tape.capture is None and tape not in self.tapes:
                self.tapes.append(tape)
                self.closing.callback(setattr, tape, "phases", tape.phases)
                tape.phases = [
                    [named for operation in phase for named in self._named(operation, places)] for phase in tape.phases
                ]

    def _parameters(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.model.named_parameters():
            yield name, parameter
            if parameter.grad is not None:
                yield f"gradient of {name}", parameter.grad

    def _named(self, operation: Operation, places: Sequence[tuple[int, int, str]]) -> list[Operation]:
        """An operation with its name; a program as its instructions. What a name says beside the operation is which
        parameters take part in it."""

        def of(addresses: Sequence[int | None]) -> str:
            told = [name for at in addresses for start, end, name in places if at is not None and start <= at < end]
            return ", ".join(dict.fromkeys(told))

        f, args, kwargs = operation
        if isinstance(f, Program):
            parts = [(Program([one], f.tensors), OPERATIONS[one.code], [each.at for each in one.operand])
                     for one in f.list]  # fmt: skip
            return [(self._with_name(part, code, of(at)), (), {}) for part, code, at in parts]
        tensors = [each for each in (getattr(f, "__self__", None), *args, *kwargs.values()) if isinstance(each, Tensor)]
        name = getattr(f, "__qualname__" if isinstance(f, type(self._named)) else "__name__", str(f))
        return [(self._with_name(f, name, of([tensor.data_ptr() for tensor in tensors])), args, kwargs)]

    def _with_name(self, f: Callable[..., Any], operation: str, parameters: str) -> Callable[..., Any]:
        name = f"{operation} ({parameters})" if parameters else operation
        self.names.add(name)

        def named(*args: Any, **kwargs: Any) -> Any:
            with record_function(name):
                return f(*args, **kwargs)

        return named

    def end(self) -> None:
        """Write the trace, and say what cost most; once."""
        profiler, self.profiler = self.profiler, None
        if profiler is None:
            return
        self.closing.close()
        part = self.file.with_name(f".{TRACE}")
        try:
            profiler.export_chrome_trace(str(part))
            os.replace(part, self.file)
        except OSError as error:
            self.say(f"profile: {self.file} cannot be written: {error.strerror}")
            return
        steps = self.calls - self.warm
        counted = "1 step" if steps == 1 else f"{steps} steps"
        self.say(f"profile of {counted} after {self.warm}; the costliest operations, milliseconds in all:")
        for line in self._costliest(profiler.key_averages()):
            self.say(line)
        self.say(f"profile: {self.file}: open it at ui.perfetto.dev")

    def _costliest(self, events: Any) -> list[str]:
        """Lines of the table. On a GPU the times are the device's; else those of named operations or, where autograd
        does the work, of torch's own."""
        if self.step.optimizer.flat.data.is_cuda:
            times = [(event.self_device_time_total, event) for event in events]
        elif self.names:
            times = [(event.cpu_time_total, event) for event in events if event.key in self.names]
        else:
            times = [(event.self_cpu_time_total, event) for event in events]
        rows = sorted(times, key=lambda pair: -pair[0])[:COSTLIEST]
        whole = sum(time for time, _ in times) or 1.0
        return [f"{time / 1e3:9.2f}  {time / whole:4.0%}  {event.count:5} x  {event.key}" for time, event in rows]


@contextmanager
def _named_layers(model: nn.Module) -> Iterator[None]:
    """Within it, the forward passes of layers have names in the trace."""
    open_now: list[Any] = []

    def begin(name: str) -> Callable[..., None]:
        def start(*_: Any) -> None:
            open_now.append(record_function(name))
            open_now[-1].__enter__()

        return start

    def end(*_: Any) -> None:
        open_now.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        for name, layer in model.named_modules():
            if name:
                first = layer.register_forward_pre_hook(begin(f"{name} ({type(layer).__name__})"))
                hooks.callback(first.remove)
                hooks.callback(layer.register_forward_hook(end).remove)
        yield
