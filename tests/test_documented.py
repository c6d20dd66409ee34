"""Every command that README and docs/ show is run: in the quick form it is parsed and composed; in the long form it is
typed in a copy of the project, in which all runs are short."""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tomllib

import command_pages
import documented
import pytest
from documented import ALL, copied, jobs, of_page
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import open_dict
from test_reliability import functions

from fmnist import ROOT
from fmnist.config import schema
from fmnist.config.parse import parse
from fmnist.launch.manual import manual

GATE = r"make (lint|docs|test|test-(long|avx2|sanitize|fuzz|habits|browser|cluster|ray))"
# Commands that are not typed in the copy, and what runs them: a test, or lines of the gate.
ELSEWHERE = {
    GATE: ".ci/run",
    r"make install|pip install -e .*": ".ci/run",  # the first line of the gate installs what all extras need
    r"python tests/cluster/(alone|onebox)\.py .*": ".ci/run",  # make test-ray and make test-cluster
    r"(RAY\w+=0 )?python train.py .*hydra/launcher=ray.*": "cluster/check_ray.py:"
    "test_a_sweep_is_what_hydras_own_launcher_makes_of_it",
    r"python train.py .*launcher=(stacked|submitit)_slurm.*": "cluster/check_slurm.py:"
    "test_a_sweep_is_what_hydras_own_launcher_makes_of_it_and_uses_both_nodes",
    r"make tensorboard.*": "supply/test_supply.py:"
    "test_make_tensorboard_serves_this_machine_alone_and_prints_the_address",
    r"python -m fmnist.board .*": "supply/test_supply.py:"  # it serves until it is ended
    "test_make_tensorboard_serves_this_machine_alone_and_prints_the_address",
    r"python -m fmnist.predict .*(\.jpg|FOLDER).*": "test_predict.py:"
    "test_a_photograph_that_is_dark_on_light_is_said_to_be_turned_over_and_is_classified",
    r"python -m fmnist.figures RUN": "test_figures.py:"
    "test_of_a_classifier_it_writes_what_the_end_of_training_would_have_left",
    r"make audit": "supply/test_audit.py:test_a_database_that_gives_no_answer_is_one_line_and_no_good_result",
    r"make fuzz": "fuzz/test_fuzz.py:test_a_reader_takes_its_corpus",
    r"make fuzz-layers": "speed/test_orders.py:test_layers_in_any_order_step_as_autograd_does",
    r"make torture|python tests/faults/torture.py": "faults/test_faults.py:"
    "test_after_a_fault_in_a_call_of_a_run_the_same_command_ends_as_if_nothing_had_been",
    r"make test-endurance": "endurance/check_endurance.py:test_memory_is_flat_over_100_000_steps",
    r"make (report|claims)( ARGS=--dry-run)?": "replication/test_main.py:"
    "test_all_parts_that_are_asked_for_are_trained_kept_and_written",
    r"make claim .*": "replication/test_main.py:test_a_claim_is_judged_by_new_seeds",
    r"make classics.*|python -m fmnist.bench classics.*": "bench/test_classics.py:"
    "test_a_learner_that_is_installed_learns_from_a_few_images",
    r"make bench|python -m fmnist.bench.*": "bench/test_bench.py:test_one_cell_from_the_command_line_to_the_chart",
    r"python -m fmnist.data DIR": "sources/test_fetch.py:test_files_directly_in_a_named_folder_are_found",
    r"python -m fmnist.data convert SOURCE TARGET": "sources/test_convert.py:test_arrays_are_converted_as_they_are",
    r"python -m fmnist.convert outputs": "test_convert.py:test_a_run_goes_on_bit_for_bit_after_it_was_converted",
    r"python train.py experiment=NAME": "test_readme.py:test_an_experiment_learns",
    r"python -O": "habits/check_habits.py:test_the_commands_work",
}
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
DRY = r"python train.py .*study=(?!lr\b).*"  # minutes or hours of training: typed with dry_run=true


def elsewhere(command):
    """What runs a command in place of the copy; None for those that are typed there."""
    return next((place for pattern, place in ELSEWHERE.items() if re.fullmatch(pattern, command)), None)


FOLLOWED = of_page(ROOT / "docs" / "extending.md")  # by tests/test_extending.py, to the letter
LEARNT = of_page(documented.README) + of_page(ROOT / "docs" / "sweeps.md")  # tests/test_readme.py trains them
TYPED = [command for command in ALL if elsewhere(command) is None and command not in FOLLOWED]
QUICK = [command for command in ALL if not (re.search(r"python train\.py", command) and command in FOLLOWED + LEARNT)]


def test_commands_are_found_and_what_runs_elsewhere_is_there():
    assert len(ALL) > 150
    assert len(TYPED) > 100
    for pattern, place in ELSEWHERE.items():
        assert any(re.fullmatch(pattern, command) for command in ALL), f"no command is {pattern}"
        if place != ".ci/run":
            file, _, name = place.partition(":")
            assert name in functions(ROOT / "tests" / file), place
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ALL:
        if re.fullmatch(GATE, command):
            assert f"\n{command}\n" in gate, command


class Parsed(Exception):
    """The arguments of a command are in order."""


def check_train(words):
    """Compose what would be trained, and the launcher and sweeper."""
    if words == ["--help"]:
        assert "dropout" in manual()
        return
    words = [word for word in words if word not in ("--cfg", "job")]
    ours = [word for word in words if re.match(r"hydra[./]|study=", word)]
    schema.NORMS.append("rms")  # which the tutorial adds
    try:
        given = compose("config", [*ours, *jobs(words)[0]], return_hydra_config=True)
        with open_dict(given):
            del given["hydra"]
        parse(given)
    finally:
        schema.NORMS.remove("rms")


def check_module(words, monkeypatch):
    """Let the program parse its arguments, and stop it there."""
    known = ["parse_known_args"] if words[0] == "fmnist.board" else []  # which hands all others to TensorBoard
    for method in ("parse_args", "parse_intermixed_args", *known):
        real = getattr(argparse.ArgumentParser, method)

        def parsing(self, *given, real=real, **more):
            real(self, *given, **more)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, method, parsing)
    module, *arguments = words
    monkeypatch.setattr("sys.argv", [module, *arguments])
    with pytest.raises(SystemExit if "--help" in arguments else Parsed) as ended:
        command_pages.main_of(module.removeprefix("fmnist."))()
    assert getattr(ended.value, "code", 0) in (0, None)


def check_make(words):
    """See that there is the target, and that the Makefile heeds the variables."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in words if "=" not in word]
    assert targets
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:.*## ", makefile, re.MULTILINE)
    for name in (word.partition("=")[0] for word in words if "=" in word):
        assert re.search(rf"\$\((or \$\()?{name}\b", makefile)


@pytest.fixture(scope="module", autouse=True)
def hydra():
    """Hydra's compose, as train.py has it."""
    Plugins.instance()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


@pytest.mark.few(40)
@pytest.mark.parametrize("command", QUICK)
def test_a_command_is_in_order(command, monkeypatch, capsys):
    words = shlex.split(command)
    while "=" in words[0]:  # a variable of the environment
        del words[0]
    words = words[3:] if words[0] == "taskset" else words
    program, *arguments = words
    if arguments[:1] == ["train.py"]:
        check_train(arguments[1:])
    elif program == "python" and arguments[0] == "-m":
        check_module(arguments[1:], monkeypatch)
    elif program == "make":
        check_make(arguments)
    elif words[:3] == ["pip", "install", "-e"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(re.findall(r"\w+", arguments[-1])) <= set(extras["optional-dependencies"])
    elif program == "python" and arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).is_file()
    else:
        assert command in (". .venv/bin/activate", "python -O")


@pytest.mark.parametrize(("command", "error"), [
    ("python train.py droput=0.5", Exception), ("python train.py dropout=1.5", Exception),
    ("python train.py study=nothing", Exception), ("make nothing", AssertionError),
    ("make claim NOTHING=1", AssertionError), ("python nothing.py", AssertionError),
    ("pip install -e '.[nothing]'", AssertionError), ("nothing at all", AssertionError),
    ("python -m fmnist.evaluate --nothing x", BaseException),
])  # fmt: skip
def test_a_command_that_is_not_in_order_is_found(command, error, monkeypatch, capsys):
    with pytest.raises(error):
        test_a_command_is_in_order(command, monkeypatch, capsys)


def test_commands_are_taken_from_blocks_text_and_tables():
    page = (
        "# T\nType `make help` or `x`.\n\n    python train.py a=1 \\\n        b=2   # why\n\n```text\npython no\n```\n"
    )
    page += "| `OMP=1 python -m fmnist.report` | makes |\n"
    assert [*documented.commands(page)] == ["make help", "python train.py a=1 b=2", "OMP=1 python -m fmnist.report"]


def shortened(copy):
    """Make each run of a copy short: few images, two epochs."""
    for file in [*(copy / "conf").rglob("*.yaml"), *(copy / "sweep").rglob("*.yaml")]:
        text = re.sub(r"\bepochs: *\d+", "epochs: 2", file.read_text(encoding="utf-8"))
        file.write_text(re.sub(r"\blimit: *(null|\d+)", "limit: 300", text), encoding="utf-8")


def with_environment(copy):
    """Give a copy what `make install` makes: an environment that is ready. Its python is the one that runs this."""
    programs = copy / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    (programs / "python").chmod(0o755)
    (programs / "activate").write_text(f'PATH={shlex.quote(str(programs))}:"$PATH"\n', encoding="utf-8")
    (copy / ".venv" / "ready").touch()
    return programs


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """All commands, typed one after another in a copy whose runs are short: {command: (status, what it said)}.

    One that takes over five minutes is ended: ELSEWHERE must name a test that runs a short form of it.
    """
    copy = copied(tmp_path_factory.mktemp("docs") / "my bench")
    shortened(copy)
    (idea,) = re.findall(r"`(fmnist/ideas/\w+\.py)`:\n\n```python\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)
    (copy / idea[0]).write_text(idea[1], encoding="utf-8")
    path = {"PATH": f"{with_environment(copy)}:{os.environ['PATH']}", "PYTHONPATH": f"{copy}:{copy / 'sweep'}"}
    found = {}
    for command in TYPED:
        line = f"{command} dry_run=true" if re.fullmatch(DRY, command) else command
        done = subprocess.run(["timeout", "300", "bash", "-c", line], cwd=copy, env=os.environ | path,
                              capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)  # fmt: skip
        found[command] = (done.returncode, done.stdout + done.stderr)
    return found


@pytest.mark.long
@pytest.mark.parametrize("command", TYPED)
def test_a_command_works_as_it_stands(command, typed):
    status, said = typed[command]
    assert status == 0, said
    assert "Traceback" not in said
    assert "Warning" not in said
