"""Small runs have the curves that are kept, to the last digit: a change of them is a decision."""

import itertools
from contextlib import nullcontext

import pytest
from golden import make
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

ROUNDING = 1e-3  # relative: what another order of sums does to a loss in these few epochs
ADD = "to compare all digits here too, add its file: python tests/golden/make.py"
DECIDE = (
    "{name} on {threads} thread(s): the curve of this kind of machine has changed.\n  kept {kept}\n  here {here}\n"
    "If that is not meant, it is a fault: the same config and seed give other results than before. If it is, write the "
    "files anew with `python tests/golden/make.py`, here and under `make test-avx2`'s variables, and say why in the "
    "commit."
)
UNKNOWN = "{name}: further than rounding from what {file} has.\n  kept {kept}\n  here {here}\n" + ADD


def nearly(curve):
    """Equal to it up to rounding."""
    return [pytest.approx(losses, rel=ROUNDING) for losses in curve]


def kept_here(threads):
    """The curves of this kind of machine, or None."""
    return next((each["curves"] for each in make.kept() if each["kind"] == make.kind(threads)), None)


@pytest.mark.parametrize("threads", make.THREADS)
@pytest.mark.parametrize("name", make.RUNS)
def test_a_run_has_the_curve_that_is_kept(name, threads, tmp_path):
    here, known = make.curve(name, threads, tmp_path / "run"), kept_here(threads)
    if known is not None:
        kept = known.get(name)
        assert here == kept, DECIDE.format(name=name, threads=threads, kept=kept, here=here)
    for other in make.kept():
        kept = other["curves"][name]
        assert here == nearly(kept), UNKNOWN.format(name=name, file=make.file_of(other["kind"]), kept=kept, here=here)


@pytest.mark.parametrize("threads", make.THREADS)
def test_the_curves_of_this_kind_of_machine_are_kept(threads):
    if kept_here(threads) is None:
        pytest.skip(f"{make.kind(threads)} is not among the kinds of machines that are kept; {ADD}")


def test_kinds_of_machines_agree_up_to_rounding():
    kept = make.kept()
    assert kept
    for one, other in itertools.combinations(kept, 2):
        assert one["kind"] != other["kind"]
        for name in make.RUNS:
            assert one["curves"][name] == nearly(other["curves"][name]), name


def test_a_change_is_told_with_what_to_do(tmp_path, monkeypatch):
    kept = make.kept()[0]
    known = {"the kind that is kept": kept["kind"], "another": {}}
    for factor, here, told in ((1 + 1e-9, "the kind that is kept", "If that is not meant, it is a fault"),
                               (1 + 1e-9, "another", ""), (1.01, "another", "add its file")):  # fmt: skip
        monkeypatch.setattr(make, "kind", lambda threads, here=here: known[here])
        monkeypatch.setattr(make, "curve", lambda name, threads, folder, factor=factor: [
            [factor * loss for loss in losses] for losses in kept["curves"][name]])  # fmt: skip
        with pytest.raises(AssertionError, match=told) if told else nullcontext():
            test_a_run_has_the_curve_that_is_kept("mlp1", 1, tmp_path)
