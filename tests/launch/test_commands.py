"""Commands that can be pasted: quoted for Hydra and for a shell, and for wherever one is."""

import os
import shlex
import subprocess
import sys

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fmnist import ROOT
from fmnist.launch import commands
from fmnist.launch.commands import command, curves, expanded, in_shell, near, python, quoted, quoted_anew

ANY = st.text("\\'\"${}a ,[]()=:~/+-.1e\n\té", max_size=12) | st.text(st.characters(exclude_categories=["Cs"]))


@given(ANY.filter(lambda text: text != "???"))
def test_a_quoted_value_is_what_hydra_and_omegaconf_read_in_it(text):
    parsed = OverridesParser.create().parse_override(quoted("data.dir", text))
    assert not parsed.is_sweep_override()
    config = OmegaConf.create({"a": 1})
    OmegaConf.update(config, parsed.key_or_group, parsed.value())
    assert config.data.dir == text
    assert type(config.data.dir) is str


@given(st.lists(ANY.filter(lambda text: "\0" not in text), min_size=1))
def test_words_for_a_shell_are_read_as_they_are(words):
    words = [*words, *(quoted("data.dir", word) for word in words)]
    assert shlex.split(in_shell(*words)) == words


def test_words_for_a_shell_stay_readable():
    assert in_shell("-m", "seed=0,1", quoted("data.dir", "/a b")) == """-m seed=0,1 "data.dir='/a b'\""""
    assert quoted("hydra.run.dir", "outputs/2026-11-25/12-00_mlp2") == "hydra.run.dir=outputs/2026-11-25/12-00_mlp2"


@pytest.mark.parametrize("words", [
    ["data.dir='/tmp/My Drive (é)'", "seed=range(0,3)", "x=[3, 4]", "a b", "$HOME", "`x`", "it's", "!x", "~"],
    [quoted("data.dir", 'a "b" $HOME `id` \\ \'c\' !x')],
])  # fmt: skip
def test_a_real_shell_reads_them_too(words):
    code = "import sys; print(sys.argv[1:])"
    line = f"{in_shell(sys.executable, '-c', code)} {in_shell(*words)}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == f"{words}\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """This checkout at a path with spaces, an accent and brackets; we are in it."""
    place = tmp_path / "My Drive (é)"
    place.symlink_to(ROOT)
    monkeypatch.setattr(commands, "ROOT", place)
    monkeypatch.chdir(place)
    monkeypatch.setattr(os, "getcwd", lambda: str(place))  # as a shell has it: not the real path
    return place


def test_a_command_is_relative_to_where_one_is(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(checkout / ".venv" / "bin" / "python"))
    typed = command("-m", "seed=0,1", quoted("hydra.run.dir", near(checkout / "outputs" / "a b")))
    assert typed == """.venv/bin/python train.py -m seed=0,1 "hydra.run.dir='outputs/a b'\""""
    assert python("-m", "fmnist.report", near(tmp_path)) == f".venv/bin/python -m fmnist.report {tmp_path}"
    monkeypatch.setattr(sys, "executable", str(checkout / "python"))
    assert python("-V") == "./python -V"  # a word without a slash is looked for on PATH
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path / "elsewhere"))
    assert shlex.split(command("lr=1")) == [str(checkout / "python"), str(checkout / "train.py"), "lr=1"]


def test_a_command_works_as_pasted(checkout):
    typed = command("--cfg", "job", quoted("data.dir", str(checkout)), "model=mlp1")
    done = subprocess.run(
        ["sh", "-c", typed], cwd=checkout, env={"PATH": "/bin"}, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert OmegaConf.create(done.stdout).data.dir == str(checkout)


@pytest.mark.parametrize(
    ("encoding", "before"), [("utf-8", ""), ("iso8859-1", "PYTHONUTF8=1 "), ("ascii", "PYTHONUTF8=1 ")]
)
def test_tensorboard_takes_paths_for_utf_8_whatever_the_locale(encoding, before, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: encoding)
    monkeypatch.chdir(tmp_path)
    assert curves(tmp_path / "é") == f"{before}{python('-m', 'fmnist.board')} 'é'"


def test_after_hydra_has_changed_the_folder_a_command_is_for_where_it_was_started(tmp_path, monkeypatch):
    config = OmegaConf.create({"hydra": {"runtime": {"cwd": str(tmp_path)}}})
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    assert near(tmp_path / "outputs" / "x") == "outputs/x"


@pytest.mark.parametrize(("typed", "mended"), [
    (["data.dir=/tmp/My Drive (lab)"], "\"data.dir='/tmp/My Drive (lab)'\""),
    (["lr=0.1", "+data.dir=/tmp/é", "-m"], "\"+data.dir='/tmp/é'\""),
    (["hydra.run.dir=~/x", "data.dir=a&b"], "\"hydra.run.dir='~/x'\" \"data.dir='a&b'\""),
])  # fmt: skip
def test_a_value_that_the_grammar_refuses_is_told_in_quotes(typed, mended):
    line = quoted_anew(typed)
    assert line.endswith(f": {mended}")
    for word in shlex.split(mended):
        key, _, value = word.partition("=")
        assert OverridesParser.create().parse_override(word).value() == value[1:-1]
        assert word.startswith(key)


@pytest.mark.parametrize("typed", [
    [], ["lr=0.1", "-m", "data.dir=/tmp/My Drive"], ["model.hidden=[1,2"], ["lr=tag(log,interval(1,2)"], ["nonsense"],
    ["data.dir='/tmp"], ["--config-dir=é"],
])  # fmt: skip
def test_what_is_right_or_not_mended_by_quotes_has_no_such_line(typed):
    assert quoted_anew(typed) is None


def test_a_home_directory_is_put_in_where_hydra_would_make_a_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/a b")
    given = ["hydra.run.dir=~/x", "hydra.sweep.dir='~/x'", "data.dir=~/x", "lr=~", 'hydra.run.dir="~"']
    whole = ["hydra.run.dir='/home/a b/x'", "hydra.sweep.dir='/home/a b/x'", *given[2:4], "hydra.run.dir='/home/a b'"]
    assert expanded(given) == whole
