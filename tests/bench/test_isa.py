"""fmnist.bench.isa: settings that programs inherit, who kept to them, the peak."""

import os
from contextlib import suppress

import pytest

from fmnist import UserError
from fmnist.bench import isa
from fmnist.bench.__main__ import main


@pytest.fixture
def all_flags(monkeypatch):
    monkeypatch.setattr(isa, "flags", lambda: set().union(*isa.NEEDS.values()))


def test_an_instruction_set_is_inherited_and_then_forgotten(all_flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    monkeypatch.setenv("FMNIST_ISA", "other")
    monkeypatch.delenv("LIBXSMM_TARGET", raising=False)
    before = dict(os.environ)
    with isa.bound("avx2"):
        assert os.environ["XLA_FLAGS"] == "--mine --xla_cpu_max_isa=AVX2"
        assert os.environ["FMNIST_ISA"] == "avx2"
        assert os.environ["LIBXSMM_TARGET"] == "hsw"
    assert dict(os.environ) == before
    with suppress(KeyboardInterrupt), isa.bound("avx512"):
        raise KeyboardInterrupt
    assert dict(os.environ) == before
    with isa.bound("native"):
        assert dict(os.environ) == before


def test_every_library_is_told_of_each_instruction_set():
    told = {level: set(settings) for level, settings in isa.SETTINGS.items()}
    only_avx2 = {"NPY_DISABLE_CPU_FEATURES", "GLIBC_TUNABLES"}  # they hide what is there; AVX-512 has nothing to hide
    assert told["avx2"] - told["avx512"] == only_avx2
    assert told["avx512"] < told["avx2"]
    assert set(isa.LEVELS) == told.keys() == isa.NEEDS.keys() == isa.FLAGS.keys()


def test_an_instruction_set_that_is_not_there_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(isa, "flags", lambda: {"avx2", "fma"})
    with isa.bound("avx2"):
        assert "NPY_DISABLE_CPU_FEATURES" not in os.environ  # NumPy would warn
    with pytest.raises(UserError, match="--isa avx512: this processor has no avx512bw, avx512dq, avx512f, avx512vl"):
        isa.bound("avx512").__enter__()
    assert main(["models", "--isa", "avx512", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: --isa avx512")


@pytest.mark.parametrize(("level", "gflops", "avx512", "peak", "kept"), [
    ("avx2", 90.0, False, 100.0, True),
    ("avx2", 90.0, None, None, True),  # nothing speaks against it
    ("avx2", 90.0, True, 100.0, False),
    ("avx2", 150.0, None, 100.0, False),
    ("avx2", None, True, None, False),
    ("avx512", 190.0, True, 200.0, True),
    ("avx512", 900.0, True, 200.0, False),
    ("native", 900.0, True, 200.0, True),
])  # fmt: skip
def test_who_keeps_to_an_instruction_set(level, gflops, avx512, peak, kept):
    assert isa.is_bound(level, gflops, avx512, peak) is kept


def test_the_peak_is_measured_where_there_is_a_compiler(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with isa.Processors("native", 1) as peak:
        assert peak.gflops() is None
        assert peak.handover() is None
    monkeypatch.delenv("CC")
    with isa.Processors("native", 2) as peak:
        measured = peak.gflops(1, rounds=100_000), peak.handover(1_000)
    assert measured == (None, None) or min(filter(None, measured)) > 0


def test_the_most_that_processors_can_do_is_not_halved_where_they_share_a_core_for_a_moment(monkeypatch):
    monkeypatch.setattr(isa, "_once", lambda loop, rounds, threads: 115.0)  # two threads are as fast as one alone
    processors = isa.Processors("native", 2)
    processors.loop = object()
    assert (processors.gflops(), processors.best) == (115.0, 230.0)


def test_with_one_processor_there_is_no_other_to_hand_a_word_to(monkeypatch):
    monkeypatch.setattr(isa.os, "sched_getaffinity", lambda _: {0})
    with isa.Processors("native", 1) as peak:
        assert peak.handover() is None
