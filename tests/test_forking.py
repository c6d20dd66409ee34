"""A command that is forked ends as one that has imported everything by itself."""

import os
import subprocess

import forking
import pytest
from forking import as_at_first, zygote
from helpers import run_cli


@pytest.fixture(autouse=True)
def at_first(monkeypatch):
    """Whatever other tests of this process have left in the environment, it is as it was."""
    monkeypatch.setattr(forking, "AT_FIRST", dict(os.environ))


@pytest.mark.long
def test_a_mistake_is_told_alike(tmp_path):
    forked, fresh = (run_cli("dropout=1.5", cwd=tmp_path, fresh=fresh) for fresh in (False, True))
    assert forked.args != fresh.args  # they are not both the same kind
    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)


@pytest.mark.parametrize(("lines", "expected"), [
    ("import sys; print(sys.argv[1]); sys.exit(3)", (3, "a word\n", "")),
    ("import sys; print('wrong', file=sys.stderr)", (0, "", "wrong\n")),
    ("import os; os.kill(os.getpid(), 9)", (-9, "", "")),
    ("import os; print(os.environ['MARK'], os.getcwd())", (0, "of the test {folder}\n", "")),
])  # fmt: skip
def test_status_output_and_environment_are_those_of_the_command(lines, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("MARK", "of the test")
    done = zygote().run(lines, "a word", cwd=tmp_path)
    status, out, err = expected
    assert (done.returncode, done.stdout, done.stderr) == (status, out.format(folder=tmp_path), err)


def test_one_that_hangs_is_killed(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        zygote().run("import threading; threading.Event().wait()", cwd=tmp_path, timeout=0.2)
    assert zygote().run("", cwd=tmp_path).returncode == 0


def test_where_the_environment_is_another_nothing_is_forked(tmp_path, monkeypatch):
    assert as_at_first()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert not as_at_first()
    done = run_cli("--version", cwd=tmp_path)
    assert done.args[0].endswith("python")
