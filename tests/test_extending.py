"""docs/extending.md, followed to the letter in a copy of the project: each idea is one file, and trains at once."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch
from documented import copied
from forking import Zygote
from helpers import rows_of

from fmnist import ROOT
from fmnist.record import checkpoint

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (An? [^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
IDEAS = {title: text for title, text in SECTIONS.items() if "```python" in text}
QUICK = ("data.limit=400", "epochs=4", "batch_size=50", "precision=float64")


def files_of(section):
    """The files that a section asks for: {path: content}."""
    return dict(re.findall(r"^`([^`\n]+)`\n```\w+\n(.*?)^```$", section, re.M | re.S))


def command_of(section):
    """What comes behind `python train.py` in the section's command."""
    (line,) = re.findall(r"^    python train\.py (.*)$", section, re.M)
    return shlex.split(line)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with all files of the page."""
    copy = copied(tmp_path_factory.mktemp("copy") / "project")
    for section in IDEAS.values():
        for name, content in files_of(section).items():
            assert not (copy / name).exists(), f"{name} is there already"
            (copy / name).write_text(content, encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def zygote(project):
    """Forks commands of the copy from a process that has imported what takes most of their time."""
    found = Zygote(os.environ, project)
    yield found
    found.close()


@pytest.fixture(scope="module")
def typed(zygote, project):
    """`python train.py ...` in the copy."""
    return lambda *arguments: zygote.run(project / "train.py", *arguments, cwd=project)


@pytest.fixture(scope="module")
def in_copy(zygote, project):
    """Runs some lines with the packages of the copy."""

    def run(code, *arguments):
        done = zygote.run(code, *arguments, cwd=project)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="module")
def alone(project, typed):
    """The command of each idea, as it stands on the page but for its size: the directories of the runs by title."""
    found = {title: project / "outputs" / title.replace(" ", "_") / "alone" for title in IDEAS}
    for title, directory in found.items():
        done = typed(*command_of(IDEAS[title]), *QUICK, f"hydra.run.dir={directory}")
        assert done.returncode == 0, done.stderr
    return found


AGAIN = """
import os, sys
from dataclasses import replace
from pathlib import Path
from fmnist.record.result import of_run
from fmnist.sources.fetch import read_ahead
from fmnist.train.engine import fit
os.fsync = lambda descriptor: None
read_ahead("fashion", None, keep=True)
for directory in map(Path, sys.argv[1:]):
    config = replace(of_run(directory), figures=False)
    for part in (0.5, None):
        fit([replace(config, until=part)], [directory.parent / "resumed"])
    fit([config, replace(config, seed=1)], [directory.parent / name for name in ("stacked", "other")])
"""


@pytest.fixture(scope="module")
def again(in_copy, alone):
    """Each idea once more: stopped in the middle and resumed, and in a stack of two."""
    in_copy(AGAIN, *map(str, alone.values()))
    return alone


def run(directory):
    """The result, the rows and the weights of a run."""
    rows = rows_of(directory)
    weights = checkpoint.load(directory / "last.safetensors")["weights"]
    return json.loads((directory / "result.json").read_text(encoding="utf-8")), rows, weights


def test_the_page_has_an_idea_of_each_kind():
    assert set(IDEAS) == {"An activation", "A layer", "A model", "An optimizer", "An augmentation", "A loss",
                          "A metric of the whole test set", "A metric of each example"}  # fmt: skip


@pytest.mark.parametrize("title", IDEAS)
def test_an_idea_is_one_file_of_code(title):
    code = [name for name in files_of(IDEAS[title]) if name.endswith(".py")]
    assert len(code) == 1
    assert code[0].startswith("fmnist/ideas/")


@pytest.mark.long
@pytest.mark.parametrize("title", IDEAS)
def test_an_idea_trains_alone_in_a_stack_and_resumed(title, again):
    result, rows, weights = run(again[title])
    assert result["status"] == "done"
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    resumed, same_rows, same_weights = run(again[title].parent / "resumed")
    assert resumed["metrics"] == result["metrics"]
    assert same_rows == rows
    for name, value in weights.items():
        assert torch.equal(value, same_weights[name]), name
    stacked, stacked_rows, _ = run(again[title].parent / "stacked")
    assert stacked["status"] == "done"
    for one, other in zip(rows, stacked_rows, strict=True):
        assert one == pytest.approx(other, rel=1e-7, abs=1e-9)


@pytest.mark.long
def test_ideas_train_in_a_sweep_in_stacks_of_workers(project, typed):
    ideas = {"model.activation": "relu,sine", "loss": "cross_entropy,focal", "norm": "rms", "optim": "signsgd"}
    knobs = [f"{name}={values}" for name, values in ideas.items()]
    sweep = typed("-m", "model=mlp1", *knobs, "+augment.upside_down=0.5", "seed=0,1", "lr=1e-4", *QUICK,
                  "hydra.launcher.workers=2", "hydra.sweep.dir=outputs/sweep")  # fmt: skip
    assert sweep.returncode == 0, sweep.stdout + sweep.stderr
    results = [json.loads(file.read_text(encoding="utf-8")) for file in project.glob("outputs/sweep/*/result.json")]
    assert [result["status"] for result in results] == ["done"] * 8
    asked = {(result["config"]["model"]["activation"], result["config"]["loss"]) for result in results}
    assert len(asked) == 4
    assert all(result["metrics"]["test/confidence"] for result in results)


@pytest.mark.long
def test_the_projects_own_tests_of_its_tables_pass_with_more_ideas(project):
    files = ["test_layout.py", "test_house.py", "nn/test_optim.py", "nn/test_layers.py", "config/test_parse.py"]
    line = [sys.executable, "-m", "pytest", "-n", "0", *(f"tests/{name}" for name in files)]
    done = subprocess.run(line, cwd=project, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout


def test_a_name_that_no_idea_has_is_one_line(typed):
    done = typed("model.activation=cosine")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: model.activation must be one of relu,")
    assert "sine, got 'cosine'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.long
def test_metrics_are_in_the_record(alone):
    result, rows, _ = run(alone["A metric of the whole test set"])
    assert 0.1 < result["metrics"]["test/confidence"] <= 1
    for metrics, part in [*((row, "validation") for row in rows), (result["metrics"], "test")]:
        assert metrics[f"{part}/accuracy"] < metrics[f"{part}/top2"] <= 1


CHECK = """
import sys
import torch
from fmnist.config.parse import parse
from fmnist.data.dataset import load
from fmnist.nn.step import Step
from fmnist.train.stack import Stack
for change in ({"model": {"name": "mlp", "hidden": [9], "activation": "sine"}}, {"norm": "rms"}, {"loss": "focal"},
               {"model": {"name": "bottleneck", "width": 9, "waist": 4}}):
    given = {"model": {"name": "mlp", "hidden": [9]}, "data": {"name": "fashion", "limit": 100},
             "optim": {"name": "adam"}, "precision": "float64", "batch_size": None, "order_seed": 0} | change
    configs = [parse(given | {"seed": seed}) for seed in (0, 1)]
    fast, slow = (Stack(configs, load(**vars(configs[0].data)), torch.device("cpu")) for _ in range(2))
    slow.step = Step(slow.model, slow.criterion, slow.optimizer, "float64")
    for stack in (fast, slow):
        stack.start_noise(1)
        stack.step.gradient(next(stack.feed.epoch(1)))
    torch.testing.assert_close(fast.optimizer.flat.grad, slow.optimizer.flat.grad, rtol=1e-11, atol=1e-13)
    assert fast.optimizer.flat.grad.any()
"""


def test_the_gradients_of_ideas_are_those_of_autograd(in_copy):
    in_copy(CHECK)
