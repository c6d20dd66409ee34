"""A tape's operations as instructions of the native library: what it knows of torch's operations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fmnist.speed import native
from fmnist.speed.native import CODES, Instruction, Operand
from fmnist.speed.programs import ALONE, Known


class Translator:
    """Turns operations of a tape into instructions.

    rows: of the chunk. batch_step: by the address of a memory block, the step from row to row of the batch in what
    lies there; 0 if nothing there has rows.
    """

    def __init__(self) -> None:
        self.rows, self.batch_step = 0, dict[int, int]()

    def __call__(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Known] | None:
        """The instructions for an operation, or None: it is not known."""
        if f is native.multiply_images:
            a, images, out, along_pixels, add = args
            return [Known(native.of_images(a, images, out, along_pixels, add), (out, a, images), ALONE)]
        own = getattr(f, "__self__", None)
        name = getattr(f, "__name__", "").split(".")[0].strip("_")
        out = kwargs.get("out", kwargs.get("grad_input", own))
        if isinstance(own, Tensor):
            args = (own, *args)
        rule = RULES.get(name)
        if rule is None or not isinstance(out, Tensor) or out.dim() > 3 or out.device.type != "cpu":
            return None
        found: list[Known] | None = rule(
            self, name, out, args, {k: v for k, v in kwargs.items() if k not in ("out", "grad_input")}
        )
        return found

    def batch_axis(self, x: Tensor) -> int | None:
        """Which of the last two dimensions of x is the batch: -1, -2 or None."""
        step = self.batch_step.get(x.untyped_storage().data_ptr())
        axes = (-2, -1) if x.dim() > 1 else ()
        return next((axis for axis in axes if step == x.stride(axis) and x.shape[axis] == self.rows), None)

    def make(
        self, code: str, out: Tensor, inputs: Sequence[Tensor], number: float = 0.0, rows_axis: int = -2,
        kind: tuple[int, int] = ALONE, **more: int,
    ) -> Known:  # fmt: skip
        """An instruction for tensors that all have out's dimensions; those of size 1 are given as steps of 0."""
        runs = out.shape[0] if out.dim() == 3 else 1
        features = out.shape[-3 - rows_axis] if out.dim() > 1 else len(out)
        rows = out.shape[rows_axis] if out.dim() > 1 else 1
        found = Instruction(CODES[code], 0, 0, 0, runs, features, rows, **more, number=number)
        for place, x in enumerate((out, *inputs)):
            found.operand[place] = self.operand(x, rows_axis)
        return Known(found, (out, *inputs), kind)

    @staticmethod
    def operand(x: Tensor, rows_axis: int) -> Operand:
        """Where x (runs, ..), (.., ..) or (features,) lies. rows_axis: which of its last two dimensions is the rows."""
        if x.dim() < 2:
            return Operand(x.data_ptr(), 0, x.stride(0) if x.dim() else 0, 0)
        run = x.stride(0) if x.dim() == 3 and len(x) > 1 else 0  # of a single run as where there is no such dimension
        return Operand(x.data_ptr(), run, x.stride(-3 - rows_axis), x.stride(rows_axis))


def elementwise(translate: Translator, name: str, out: Tensor, args: Sequence[Any], more: Mapping[str, Any]) -> Any:
    """One that computes each number of out from those at its place."""
    tensors = [each for each in args if isinstance(each, Tensor)][name == "copy" :]  # it does not read what it is
    numbers = [float(each) for each in args if not isinstance(each, Tensor)]
    number = numbers[0] if numbers else float(more.get("alpha", more.get("value", 1.0)))
    if name in ("add", "sub") and numbers:
        name, number = "plus", number if name == "add" else -number
    elif name in ("mul", "div") and numbers:
        name, number = "scale", number if name == "mul" else 1 / number
    elif name == "div":
        return None
    if out.dtype == torch.float64 and name in ("add", "addcmul") and out is tensors[0] and out.dim() == 1:
        fits = all(_plain(x) and x.shape == out.shape for x in tensors[1:])
        return [translate.make("accumulate", out, tensors[1:], number)] if fits else None
    if not all(map(_plain, (out, *tensors))) or len(tensors) > 3:
        return None
    inputs = [tensor.expand(out.shape) for tensor in tensors]
    axis = translate.batch_axis(out)
    rows_axis = -2 if axis is None else axis
    if out.dim() > 1:
        across = out.stride(rows_axis) == 1 or out.shape[-3 - rows_axis] == 1  # as elementwise.c decides
        line = rows_axis if across else -3 - rows_axis
        if out.shape[line] > 1 and out.stride(line) != 1:
            return None
    mapped = [x for x in tensors if x.untyped_storage().data_ptr() in translate.batch_step]
    local = axis is not None and all(translate.batch_axis(x) == axis for x in mapped)
    kind = (out.shape[0] if out.dim() == 3 else 1, translate.rows) if local else ALONE
    return [translate.make(name, out, inputs, number, rows_axis, kind)]


def _plain(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and 1 <= x.dim() <= 3


def product(translate: Translator, name: str, out: Tensor, args: Sequence[Any], more: Mapping[str, Any]) -> Any:
    """out = a @ b, or out += a @ b, where out is the first argument."""
    add = len(args) == 3
    if add and args[0] is not out:
        return None
    a, b = args[-2:]
    if not all(map(_plain, (out, a, b))):
        return None
    if out.stride(-1) != 1 and out.shape[-1] > 1:
        out, a, b = out.mT, b.mT, a.mT
    if (out.stride(-1) != 1 and out.shape[-1] > 1) or 1 not in b.stride()[-2:]:
        return None
    axis, of_a, of_b = map(translate.batch_axis, (out, a, b))
    kind = (out.shape[0] if out.dim() == 3 else 1, translate.rows)
    local = (axis == -1 and of_a is None and of_b in (-1, None)) or (axis == -2 and of_b is None and of_a in (-2, None))
    found = translate.make("multiply", out, [], rows_axis=-1, kind=kind if local else ALONE, depth=a.shape[-1], add=add)
    found.instruction.turned = int(axis == -2)
    found.instruction.operand[1], found.instruction.operand[2] = translate.operand(a, -1), translate.operand(b, -1)
    return [Known(found.instruction, (out, a, b), found.kind)]


def sums(translate: Translator, name: str, out: Tensor, args: Sequence[Any], more: Mapping[str, Any]) -> Any:
    """Sums and means over rows, over features, or over both."""
    x, dims = args
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if not _plain(x) or not _plain(out) or x.dim() != 3:
        return None
    if more.get("keepdim"):
        out = out.squeeze(dims[0])
    if dims in ((-2,), (-1,)):
        count, axis = x.shape[dims[0]], translate.batch_axis(x)
        scale = 1 / count if name == "mean" else 1.0
        if axis == -3 - dims[0]:  # the rows remain
            if dims == (-2,):
                return None
            kind = (len(x), translate.rows)
            return [translate.make("sum_features", out[:, :, None], [x], scale, kind=kind, depth=count)]
        return [translate.make("sum_rows", out[:, None, :], [x], scale, depth=count)] if dims == (-2,) else None
    if dims == (1, 2) and name == "sum" and translate.batch_axis(x) == -2:
        by_row = torch.empty(len(x), translate.rows, 1)
        first = translate.make("sum_features", by_row, [x], 1.0, kind=(len(x), translate.rows), depth=x.shape[-1])
        return [first, translate.make("sum_rows", out[:, None, None], [by_row], 1.0, depth=translate.rows)]
    return None


def log_softmax(translate: Translator, name: str, out: Tensor, args: Sequence[Any], more: Mapping[str, Any]) -> Any:
    """Over the features, which are dimension -2."""
    x, dim = args[:2]
    fits = dim == -2 and all(_plain(y) and translate.batch_axis(y) == -1 and y.stride(-1) == 1 for y in (x, out))
    return [translate.make(name, out, [x], 0.0, -1, (len(x), translate.rows))] if fits and x.dim() == 3 else None


def scatter(translate: Translator, name: str, out: Tensor, args: Sequence[Any], more: Mapping[str, Any]) -> Any:
    """out[run, label of the row, row] += share of the row: the index varies along the rows alone."""
    _, dim, index, share = args
    if dim != -2 or index.shape[-2] != 1 or translate.batch_axis(out) != -1 or not _plain(share) or out.dim() != 3:
        return None
    return [translate.make("scatter", out, [index, share], 0.0, -1, (len(out), translate.rows))]


RULES: dict[str, Callable[..., Any]] = {
    "mm": product, "bmm": product, "addmm": product, "baddbmm": product, "sum": sums, "mean": sums,
    "log_softmax": log_softmax, "scatter_add": scatter, "div": elementwise,
    **{name: elementwise for name in list(CODES)[CODES["copy"] :] if name not in ("plus", "scale")},
}  # fmt: skip
