"""Where the time of a step goes: measured, shown and drawn."""

import json

import pytest

from fmnist.bench.__main__ import main
from fmnist.bench.steps import step_table
from fmnist.speed import native

PARTS = {"products with images": 100.0, "other products": 50.0, "optimizer": 50.0}


def test_the_parts_of_a_step_are_a_table():
    lines = step_table({"model": "mlp1", "batch": None, "isa": "avx2", "parts": PARTS}).splitlines()
    assert lines[0] == "mlp1, all rows, avx2: microseconds of a step"
    assert [line.split()[-2:] for line in lines[2:5]] == [["100", "50%"], ["50", "25%"], ["50", "25%"]]
    assert lines[-1].split() == ["all", "200"]


@pytest.mark.long
@pytest.mark.parametrize("isa", ["native", "avx2"])
def test_a_step_is_measured_and_drawn(tmp_path, capsys, isa):
    asked = ["step", "--models", "mlp1", "--batches", "32", "--rows", "2000", "--isa", isa, "--output", str(tmp_path)]
    picture = tmp_path / "step.svg"
    assert main([*asked, "--plot", str(picture)]) == 0
    assert "products with images" in capsys.readouterr().out
    (file,) = tmp_path.glob("*.json")
    (step,) = json.loads(file.read_text(encoding="utf-8"))["steps"]
    assert all(us >= 0 for us in step["parts"].values())
    assert step["parts"]["optimizer"] > 0
    assert (step["parts"]["products with images"] > 0) == (native.library() is not None)
    assert "32 rows" in picture.read_text(encoding="utf-8")
    assert main(["--show", str(file), "--plot", str(tmp_path / "again.svg")]) == 0
    assert capsys.readouterr().out.count("microseconds of a step") == 1
