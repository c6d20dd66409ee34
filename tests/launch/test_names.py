"""Names of sweeps and runs, readable and safe wherever they are typed."""

import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from fmnist.launch.commands import quoted
from fmnist.launch.names import LONGEST, job_name, sweep_name

TYPED = ["model=mlp1", "seed=0,1,2,3", "lr=1e-3,3e-3", "+dropout=0.1,0.5"]


def test_names_are_the_overrides():
    assert sweep_name(TYPED) == "model-mlp1+seed+lr+dropout"
    assert job_name(TYPED, ["model=mlp1", "seed=0", "lr=0.001", "+dropout=0.1"]) == "seed-0+lr-0.001+dropout-0.1"
    assert job_name(["seed=range(0,3)"], ["seed=2"]) == "seed-2"
    assert job_name(["model.hidden=[300,100],[20]"], ["model.hidden=[300,100]"]) == "model.hidden-300-100"
    assert job_name(["lr=1,2"], ["lr=1e+30"]) == "lr-1e30"
    assert job_name([], ["lr=0.1", "+seed=3"]) == "lr-0.1+seed-3"  # swept over by a study or a sweeper's own search


def test_a_study_names_its_sweep():
    assert sweep_name(["study=dropout"]) == sweep_name(["+study=dropout"]) == "dropout"
    assert sweep_name(["study=dropout", "epochs=5", "seed=0,1"]) == "dropout+epochs-5+seed"


def test_what_does_not_change_the_runs_does_not_change_the_name_of_the_sweep():
    assert sweep_name([*TYPED, "device=cpu", "dry_run=true"]) == sweep_name(TYPED)
    assert sweep_name(["seed=0,1", "model=mlp1"]) == sweep_name(["seed=0,1,2", "model=mlp1"]) == "seed+model-mlp1"
    assert sweep_name([]) == "defaults"
    assert job_name(["lr=0.1"], ["lr=0.1"]) == "run"


def test_of_a_knob_that_was_typed_twice_the_last_counts():
    assert sweep_name(["seed=0", "lr=0.1", "seed=0,1"]) == "seed+lr-0.1"
    assert job_name(["seed=0", "lr=0.1", "seed=0,1"], ["seed=1", "lr=0.1"]) == "seed-1"


VALUES = st.text(max_size=30) | st.floats().map(str) | st.lists(st.integers()).map(str) | st.text(min_size=300)


@given(st.dictionaries(st.sampled_from(["seed", "data.dir", "+model.hidden", "optim@x", "~mask"]), VALUES, min_size=1))
def test_a_name_is_one_plain_word_everywhere(overrides):
    name = job_name([], [f"{key}={value}" for key, value in overrides.items()])
    assert re.fullmatch(r"[A-Za-z0-9_.+-]+", name)
    assert len(name) <= LONGEST
    assert shlex.quote(name) == name
    parsed = OverridesParser.create().parse_override(f"hydra.run.dir=outputs/sweep/{name}")
    assert not parsed.is_sweep_override()
    assert parsed.value() == f"outputs/sweep/{name}"


FEW = st.text("a1e+-.,[] '\"\\/", max_size=4)  # characters that are rewritten, in texts so short that some are equal


def name_of(override):
    return job_name([], [override])


@given(FEW | st.text(max_size=20), FEW | st.text(max_size=20))
def test_other_texts_have_other_names(one, other):
    assert (name_of(quoted("data.dir", one)) == name_of(quoted("data.dir", other))) is (one == other)


NUMBERS = st.integers(-2, 2) | st.floats(allow_nan=False) | st.sampled_from([1e30, 1e-30, 1e3])


@given(NUMBERS, NUMBERS, st.lists(NUMBERS, max_size=3), st.lists(NUMBERS, max_size=3))
def test_other_numbers_and_other_lists_have_other_names(one, other, many, more):
    assert (name_of(f"lr={one}") == name_of(f"lr={other}")) is (str(one) == str(other))
    assert (name_of(f"x={many}") == name_of(f"x={more}")) is (str(many) == str(more))


@pytest.mark.parametrize(("one", "other"), [
    ("lr=1e30", "lr=1e+30"), ("model.hidden=[20,12]", "model.hidden=[20, 12]"), ("dropout=0.5", "+dropout=0.5"),
    ("data.dir=abc", "data.dir='abc'"), ("data.dir=abc", 'data.dir="abc"'), ("lr= 1", "lr=1"),
])  # fmt: skip
def test_what_is_typed_in_another_way_has_the_same_name(one, other):
    assert name_of(one) == name_of(other)


@pytest.mark.parametrize("path", ["/a (b)\udcff", "/\ud800", "é"])
def test_bytes_that_are_no_utf8_are_in_no_name(path):
    words, others = ([quoted("data.dir", each), "seed=0,1"] for each in (path, path + "x"))
    assert sweep_name(words).isascii()
    assert sweep_name(words) != sweep_name(others)
