"""Which kernels serve is a rule: of device, precision, rows, what the processor can do, and exactness."""

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch
from helpers import make_config
from speed.twins import CLASSIFIERS, MODELS, twins

from fmnist import ROOT, UserError
from fmnist.speed import integers, kernels, native
from fmnist.speed.kernels import BLACK, FLOAT32_ERROR, ROWS, Kernels, choose, float32_products, medium_error, serving
from fmnist.train.stack import Stack

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLAIN, WIDE, ROUNDING = Kernels(), Kernels(wide="medium"), Kernels("medium", "medium")


def on(monkeypatch, capability="AVX512", error=1e-7, amx=False, isa="", compiled=False):
    """A processor: what torch says of it, the error of its "medium" products, whether integers.c runs on it, whether
    the native library does."""
    monkeypatch.setattr(native, "library", native.library if compiled else lambda: None)
    monkeypatch.setattr(kernels, "medium_error", lambda: error)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(integers, "library", lambda: object() if amx else None)
    monkeypatch.setenv("FMNIST_ISA", isa)


def with_integers(found):
    return replace(found, integers=True)


COMPILED = [False, pytest.param(True, marks=pytest.mark.skipif(native.library() is None, reason="not compiled"))]


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("isa", ["", "avx2"])
@pytest.mark.parametrize(("capability", "error", "amx"), [
    ("AVX2", 1e-7, False), ("AVX512", 1e-7, False), ("AVX512", 1e-3, False), ("AVX512", 1e-3, True),
    ("AVX512", 1e-7, True),
])  # fmt: skip
def test_kernels_are_a_function_of_what_the_processor_can_do(monkeypatch, capability, error, amx, isa, compiled):
    on(monkeypatch, capability, error, amx, isa, compiled)
    low, exact = isa == "avx2", error <= FLOAT32_ERROR
    fast = replace(WIDE if exact and capability == "AVX512" and not low else PLAIN, programs=compiled)
    whole = amx and not low
    assert choose(CPU, "float32", ROWS) == (with_integers(fast) if whole else fast)
    assert choose(CPU, "float32", ROWS - 1) == choose(CPU, "float32", ROWS - 1, BLACK - 0.01) == fast
    assert choose(CPU, "float32", ROWS - 1, BLACK) == replace(fast, black=compiled)
    assert choose(CPU, "float32", ROWS, BLACK) == replace(fast, integers=whole, black=compiled and not whole)
    assert choose(CPU, "float64", 128) == PLAIN
    assert choose(CUDA, "float32", 128) == choose(CUDA, "float64", 128) == PLAIN
    assert choose(CUDA, "bfloat16", 128) is None
    rounding = None if exact or low else ROUNDING
    assert choose(CPU, "bfloat16", ROWS - 1) == rounding
    assert choose(CPU, "bfloat16", ROWS) == (rounding and with_integers(rounding) if amx else rounding)


def test_nothing_is_timed(monkeypatch):
    def clock(*_):
        raise AssertionError("a clock was read")

    medium_error.cache_clear(), integers.library.cache_clear(), native.library.cache_clear()
    with monkeypatch.context() as patch:
        for name in ("perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "time", "time_ns", "process_time"):
            patch.setattr(time, name, clock)
        places = itertools.product((CPU, CUDA), ("float32", "float64", "bfloat16"), (1, ROWS, 2000))
        first = [choose(*place) for place in places]
    busy = torch.rand(600, 600)
    for _ in range(20):
        busy = busy @ busy / 600
    medium_error.cache_clear()
    places = itertools.product((CPU, CUDA), ("float32", "float64", "bfloat16"), (1, ROWS, 2000))
    assert [choose(*place) for place in places] == first


def test_the_probe_takes_no_rounding_for_float32():
    wide = choose(CPU, "float32", 128).wide
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(300, 784, generator=generator), torch.randn(784, 500, generator=generator)
    with float32_products(wide):
        error = ((a @ b).double() - a.double() @ b.double()).abs().max() / (a.double() @ b.double()).abs().max()
    assert error <= FLOAT32_ERROR
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("precision", "capability", "error", "amx"), [
    ("float32", "AVX512", 1e-7, True), ("float32", "AVX512", 1e-3, True), ("float32", "AVX2", 1e-7, False),
    ("bfloat16", "AVX512", 1e-3, True), ("float64", "AVX512", 1e-7, True),
])  # fmt: skip
@pytest.mark.parametrize("compiled", COMPILED)
def test_a_run_goes_on_with_its_kernels_where_they_serve(
    dataset, monkeypatch, precision, capability, error, amx, compiled
):
    on(monkeypatch, capability, error, amx, compiled=compiled)
    step = Stack([make_config(**CLASSIFIERS[0], batch_size=64, precision=precision)], dataset, CPU).step
    assert step.black > BLACK
    found = serving(CPU, precision, 64, step.black)
    assert step.kernels == found[0]
    for began in found:
        assert choose(CPU, precision, 64, step.black, began) == began
        step.go_on_with(json.loads(json.dumps(asdict(began))))
        assert step.kernels == began
        assert step.settings() == asdict(began)
        assert step.takes_pixels == (began.integers or began.black)
        step.go_on_with(asdict(began) | {"cast": True})  # as checkpoints of old have it
        assert step.kernels == began
    everything = itertools.product(("highest", "medium"), ("highest", "medium"), *[(False, True)] * 3)
    for other in {Kernels(*values) for values in everything} - set(found):
        assert choose(CPU, precision, 64, step.black, other) == found[0]
        step.go_on_with(asdict(other))
        assert step.kernels == found[0]


CHOICES = """
import json, torch
from dataclasses import asdict
from fmnist.speed import integers, kernels
cpu = torch.device("cpu")
chosen = [kernels.choose(cpu, precision, 128) for precision in ("float32", "bfloat16")]
print(json.dumps([integers.library() is not None, kernels.bfloat16_is_emulated(cpu), *map(repr, chosen)]))
"""


@pytest.mark.long
def test_a_switch_hides_what_a_better_processor_has():
    environment = os.environ | {"FMNIST_ISA": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", CHOICES], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    plain = replace(PLAIN, programs=native.library() is not None)
    assert json.loads(done.stdout) == [False, True, repr(plain), "None"]


def test_a_switch_that_is_misspelt_is_a_mistake(monkeypatch):
    monkeypatch.setenv("FMNIST_ISA", "avx1")
    with pytest.raises(UserError, match="FMNIST_ISA must be avx2 or avx512, got 'avx1'"):
        choose(CPU, "float32", 128)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["model"])
def test_bfloat16_is_left_to_autograd_where_no_kernels_serve(dataset, monkeypatch, model):
    on(monkeypatch, "AVX2")
    slow, fast = twins([make_config(**model, batch_size=64, precision="bfloat16", dropout=0.2)], dataset)
    for stack in (slow, fast):
        stack.start_noise(1)
        stack.step.gradient(next(stack.feed.epoch(1)))
    assert fast.step.kernels is None
    assert fast.step.settings() == {}
    assert not fast.step.tapes
    assert torch.equal(fast.optimizer.flat.grad, slow.optimizer.flat.grad)
    torch.testing.assert_close(fast.step.totals.up_to_date(), slow.step.totals.up_to_date(), rtol=0, atol=0)


ERROR = 2.0**-9  # half a unit in the last of bfloat16's 8 digits, relative


@pytest.mark.parametrize("way", ["autograd", "tape"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["model"])
def test_bfloat16_steps_are_float32_ones_but_for_their_rounding(dataset, monkeypatch, model, way):
    """Autograd rounds. The tape may where "medium" rounds (AMX), though oneDNN does small products in float32 even
    there; elsewhere it must be float32 itself."""
    knobs = {**model, "batch_size": 64}
    exact = twins([make_config(**knobs, precision="float64")], dataset)[0]
    monkeypatch.setattr("fmnist.speed.step.choose", lambda *_: ROUNDING if way == "tape" else None)
    rounded = Stack([make_config(**knobs, precision="bfloat16")], dataset, CPU)
    for stack in (exact, rounded):
        stack.start_noise(1)
        monkeypatch.setattr("fmnist.nn.noise.Noise.normal", lambda self, out: out.fill_(0.3))
        stack.step.gradient(next(stack.feed.epoch(1)))
    assert bool(rounded.step.tapes) == (way == "tape")
    truth, found = exact.optimizer.flat.grad, rounded.optimizer.flat.grad
    assert found.dtype == torch.float32
    distance = float((found - truth).norm() / truth.norm())
    assert distance < 20 * ERROR  # of some products one after another
    if way == "autograd":
        assert distance > ERROR / 20
    elif medium_error() <= FLOAT32_ERROR:
        assert distance < FLOAT32_ERROR
    assert rounded.dtype == torch.float32


def test_what_torch_says_of_short_memory_before_it_fails_is_not_shown():
    code = (
        "import fmnist.speed.kernels, warnings; warnings.warn('mkldnn_matmul failed, switching to baddbmm:could not')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
