"""What commands are given: a path means the same however it was quoted."""

import argparse
import importlib
import sys
from pathlib import Path

import pytest

from fmnist.program.arguments import typed_path

COMMANDS = [
    ("fmnist.report.__main__", "--output"), ("fmnist.evaluate", "runs"), ("fmnist.figures", "--folder"),
    ("fmnist.sources.command", ""), ("fmnist.sources.command convert", "target"), ("fmnist.bench.__main__", "--show"),
    ("fmnist.replication.__main__", ""),
]  # fmt: skip


class Read(Exception):
    """A parser has been asked to read a command line."""


@pytest.mark.parametrize(("command", "known"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_every_argument_that_is_a_path_may_begin_with_a_tilde(command, known, monkeypatch):
    def caught(parser, *_):
        raise Read(parser)

    module, *words = command.split()
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", caught)
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(Read) as read:
        importlib.import_module(module).main()
    types = {(action.option_strings or [action.dest])[0]: action.type for action in read.value.args[0]._actions}
    assert Path not in types.values()
    assert not known or types[known] is typed_path


def test_a_tilde_is_the_home_directory_and_that_of_nobody_stays(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    names = ["~/x", "x/~", "~nobody-is-called-this/x"]
    assert [str(typed_path(name)) for name in names] == ["/home/me/x", "x/~", "~nobody-is-called-this/x"]
