"""A picture is added by one function in one file."""

import ast
import shutil
import subprocess
import sys

import pytest
from matplotlib.figure import Figure
from report.made_up import names_of, sweep, write_run

from fmnist import ROOT
from fmnist.report import gallery
from fmnist.report.gallery import suits
from fmnist.report.page import report
from fmnist.report.plots import Picture


@pytest.mark.long
def test_a_picture_that_is_added_is_drawn_for_what_it_suits(lr, grid, tmp_path, monkeypatch):
    before = names_of(lr), names_of(grid)
    monkeypatch.setattr(gallery, "ENTRIES", dict(gallery.ENTRIES))

    @suits(varying=1)
    def toy(comparison):
        return Picture("toy", Figure(), f"A toy of {comparison.varying[0]}.")

    assert names_of(lr) == [*before[0], "toy"]
    assert names_of(grid) == before[1]
    report([lr], tmp_path)
    assert "![A toy of lr.](toy.svg)" in (tmp_path / "index.md").read_text(encoding="utf-8")
    assert (tmp_path / "toy.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_a_picture_says_how_many_configurations_it_needs_and_what_else(lr, tmp_path, monkeypatch):
    write_run(tmp_path / "alone", 0.5)
    names_of(lr)
    monkeypatch.setattr(gallery, "ENTRIES", {})

    @suits()
    def any_two(comparison):
        return Picture("any_two", Figure(), "")

    @suits(finished=1, when=lambda comparison: comparison.metric == "accuracy")
    def even_one(comparison):
        return [Picture(f"even_one_{number}", Figure(), "") for number in range(2)]

    @suits(finished=1, when=lambda comparison: comparison.metric == "loss")
    def never(comparison):
        raise AssertionError

    assert names_of(lr) == ["any_two", "even_one_0", "even_one_1"]
    assert names_of(tmp_path) == ["even_one_0", "even_one_1"]


def test_a_module_that_is_loaded_again_draws_once_and_two_pictures_have_two_names(lr, monkeypatch):
    names_of(lr)
    monkeypatch.setattr(gallery, "ENTRIES", {})

    def toy(comparison):
        return Picture("toy", Figure(), "")

    def other(comparison):
        return Picture("toy", Figure(), "")

    suits()(suits()(toy))
    assert names_of(lr) == ["toy"]
    suits()(other)
    with pytest.raises(ValueError, match="two pictures of a report have the name toy"):
        names_of(lr)


@pytest.mark.long
def test_the_example_of_the_docstring_is_one_function_in_one_file(tmp_path):
    """To the letter, in a copy of the project."""
    shutil.copytree(ROOT / "fmnist", tmp_path / "fmnist", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    lines = gallery.__doc__.splitlines()
    example = "\n".join(line.removeprefix("    ") for line in lines if not line or line.startswith("    "))
    ast.parse(example)
    with open(tmp_path / "fmnist" / "report" / "landscapes.py", "a", encoding="utf-8") as file:
        file.write(f"\n\n{example}\n")
    sweep(tmp_path / "runs", [({"lr": rate}, [0.5 + rate]) for rate in (0.1, 0.2)])
    done = subprocess.run([sys.executable, "-m", "fmnist.report", "runs"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs" / "report" / "index.md").read_text(encoding="utf-8")
    assert "](ranking.svg)\n\nThe configurations, the best first.\n" in page
    assert (tmp_path / "runs" / "report" / "ranking.svg").exists()
