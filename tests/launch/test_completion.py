"""Completion as the shell asks for it: the knobs and names of the schema, the options of the commands; no torch."""

import shlex
import shutil
import subprocess
import sys
from dataclasses import fields

import pytest
from helpers import said

from fmnist import ROOT
from fmnist import completion as command
from fmnist.config.parse import flat
from fmnist.config.schema import ACTIVATIONS, CLASS_LOSSES, GROUPS, INITS, Config, Knobs
from fmnist.launch.completion import candidates, commands, knobs


def of(line):
    """The candidates for the last word, in a set."""
    return set(candidates(line))


def test_every_knob_of_the_schema_is_completed():
    known = knobs({})
    assert {f.name for f in fields(Knobs)} - {"augment", "anneal"} <= known.keys()
    assert flat({"model": vars(Config().model), "optim": vars(Config().optim)}).keys() - {
        "model.name", "optim.name"} <= known.keys()  # fmt: skip
    assert {f"{name}=" for name in known} == of("python train.py ")
    assert of("python train.py seed=0 see") == set()
    assert of(".venv/bin/python /a/train.py -m +lab") == {"+label_smoothing="}


@pytest.mark.parametrize(
    ("line", "values"),
    [("python train.py norm=", ["batch", "layer", "null"]), ("python train.py init=", [*INITS]),
     ("python train.py model.activation=", [*ACTIVATIONS]), ("python train.py figures=", ["true", "false"]),
     ("python train.py model=mlp2 loss=", [*CLASS_LOSSES]), ("python train.py model=vae loss=", ["bce"]),
     ("python train.py model=", [file.stem for file in (ROOT / "conf/model").glob("*.yaml")]),
     ("python train.py study=", [file.stem for file in (ROOT / "sweep/study").glob("*.yaml")]),
     ("python train.py lr=", []), ("python train.py data.dir=", [])],
)  # fmt: skip
def test_names_of_values_are_those_of_the_schema_and_of_conf(line, values):
    assert of(line) == {f"{line.split()[-1]}{value}" for value in values}


def test_optimizers_losses_and_choices_are_all_there():
    assert {word.removeprefix("optim=") for word in of("python train.py optim=")} == {*GROUPS["optim"]}
    assert of("python train.py -m optim=adam,l") == {"optim=adam,lion"}
    assert of("python train.py model=vae model.l") == {"model.latent="}
    assert of("python train.py model=mlp model.l") == set()
    assert "anneal.beta=" in of("python train.py anneal.")
    assert of("python train.py model=mlp anneal.b") == set()
    assert of("python train.py hydra/launcher=st") == {"hydra/launcher=stacked", "hydra/launcher=stacked_slurm"}
    assert of("python train.py 'loss=b") == {"loss=brier", "loss=bce"}


def test_commands_and_their_options_are_read_in_their_source():
    assert {"fmnist.evaluate", "fmnist.report", "fmnist.data"} < {*commands()}
    assert of("python -m fmnist.ev") == {"fmnist.evaluate"}
    assert {"--help", "--weights", "--json"} < of("python -m fmnist.evaluate outputs/mine --")
    assert of("python -m fmnist.evaluate outputs/mine --weights ") == {"last", "best", "average", "snapshot-"}
    assert of("python -m fmnist.evaluate ") == of("python -m fmnist.evaluate RUN --data ") == set()  # file names
    assert (of("python -m fmnist.extend "), of("python -m fmnist.extend RUN ")) == (set(), {"epochs="})
    assert "--size" in of("python -m fmnist.data --s")
    assert "dropout=" in of("python -m fmnist.report --baseline d")
    assert of("python -m fmnist.nothing --") == of("python other.py mod") == of("") == set()


@pytest.mark.parametrize("module", commands())
def test_all_options_of_all_commands_are_words(module):
    found = of(f"python -m {module} -")
    assert "--help" in found
    assert all(word.startswith("-") and " " not in word for word in found)


def test_completing_imports_neither_torch_nor_hydra(monkeypatch, capsys):
    code = ("import sys, runpy; sys.argv[1:] = ['--line', 'python train.py model=ml']\n"
            "try: runpy.run_module('fmnist.completion', run_name='__main__')\n"
            "finally: print({'torch', 'hydra', 'omegaconf', 'numpy'} & {*sys.modules})")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "model=mlp\nmodel=mlp1\nmodel=mlp2\nset()\n"
    assert "compdef _fmnist python" in str(said(monkeypatch, capsys, command.main, "zsh"))


BASH = """
source /dev/stdin <<< "$(python -m fmnist.completion bash)"
asked() {
    COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
    _fmnist 2>/dev/null
    printf '%s|' "${COMPREPLY[@]}"
    echo
}
asked 'python train.py opti'
asked 'python train.py -m optim=adam,m'
asked 'python -m fmnist.evaluate --we'
asked 'python other.py x'
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
asked 'python train.py optim=mu'
complete -p python
"""


def test_bash_gets_what_it_puts_in_place_of_the_word(tmp_path):
    (tmp_path / "python").symlink_to(sys.executable)
    script = BASH.replace("python -m", f"{shlex.quote(sys.executable)} -m", 1)
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=ROOT, capture_output=True, text=True)
    first, values, options, other, whole, registered = done.stdout.splitlines()
    assert "optim=|" in first
    assert values == "adam,muon|"  # bash takes what follows "=" for a word of its own
    assert (options, other.strip("|"), whole) == ("--weights|", "", "optim=muon|")
    assert registered == "complete -o default -F _fmnist python"


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_completes():
    script = f"{shlex.quote(sys.executable)} -m fmnist.completion fish | source; complete -C 'python train.py optim=mu'"
    done = subprocess.run(["fish", "--no-config", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "optim=muon" in done.stdout.splitlines()
