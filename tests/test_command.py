"""What all commands share: the commit they run from, and output that ends no command."""

import errno
import subprocess
import sys

import pytest

import fmnist
from fmnist import ROOT

PRINT = "import logging, os, sys\nfrom fmnist import lenient_output, run_command\n"


def python(code, shell="", **environment):
    """A program in a fresh process, with its output led where a shell leads it. Its status, output and error."""
    command = ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {shell}', sys.executable, PRINT + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env={"PATH": "/usr/bin:/bin", **environment})
    return done.returncode, done.stdout, done.stderr


LONG = "logging.basicConfig(stream=sys.stdout, level=20)\nfor _ in range(9000): print('x' * 99); logging.info('y')\n"


@pytest.mark.parametrize("shell", ["", "| head -1", "| true", "> /dev/full", "2> /dev/full", ">&-", "2>&-", ">&- 2>&-"])
def test_training_prints_where_it_can_and_ends_well(shell):
    status, _, err = python(f"lenient_output(OSError)\n{LONG}print('z', file=sys.stderr)", shell)
    assert status == 0
    assert b"Error" not in err


@pytest.mark.parametrize(("shell", "status"), [("", 0), ("| head -1", 0), (">&-", 0), ("> /dev/full", 1)])
def test_a_command_whose_output_is_lost_says_so_unless_nobody_reads_it(shell, status):
    found, _, err = python(f"def main():\n    {LONG.splitlines()[1]}\nrun_command(main)", shell)
    assert found == status
    assert err == (b"error: [Errno 28] No space left on device\n" if status else b"")


def test_output_that_would_have_to_wait_is_lost_and_no_error():
    code = f"os.set_blocking(1, False)\nlenient_output(OSError)\n{LONG}sys.stderr.write('done')"
    status, _, err = python(code, "| (sleep 1; cat) > /dev/null")
    assert (status, err) == (0, b"done")


@pytest.mark.parametrize(("encoding", "expected"), [
    ("utf-8", "é → \udce9".encode(errors="surrogateescape")), ("latin-1", b"\xe9 \\u2192 \xe9"),
    ("ascii", b"\\xe9 \\u2192 \xe9"),
])  # fmt: skip
def test_what_an_encoding_lacks_is_printed_as_an_escape_and_names_of_files_as_their_bytes(encoding, expected):
    code = "lenient_output()\nprint('é \\u2192 \\udce9', end='')"
    assert python(code, PYTHONIOENCODING=encoding) == (0, expected, b"")


@pytest.mark.parametrize(("body", "status", "said"), [
    ("pass", 0, b""), ("return 3", 3, b""), ("raise KeyboardInterrupt", 130, b""),
    ("open('/nowhere/x')", 1, b"error: /nowhere/x: No such file or directory\n"),
])  # fmt: skip
def test_a_command_ends_with_one_line_and_a_status(body, status, said):
    assert python(f"def main():\n    {body}\nrun_command(main)") == (status, b"", said)


def test_output_of_a_notebook_is_left_as_it_is(monkeypatch):
    class Cell:
        """IPython's stream is none of a file."""

    cell = Cell()
    monkeypatch.setattr("sys.stdout", cell)
    monkeypatch.setattr("sys.stderr", None)
    monkeypatch.setattr("logging.raiseExceptions", True)
    fmnist.lenient_output()
    assert sys.stdout is cell
    assert sys.stderr is None


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *who, "-C", folder, *arguments], capture_output=True, text=True, check=True,
                          env={"PATH": "/usr/bin:/bin"})  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository that looks like this one, in the place of this one, and its commit."""
    folder = tmp_path / "checkout"
    for name in ("train.py", "README.md", "fmnist/nn/layers.py", "fmnist/speed/integers.c", "conf/config.yaml",
                 "sweep/study/lr.yaml"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1\n", encoding="utf-8")
    (folder / ".gitignore").write_text("/outputs/\n", encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    monkeypatch.setattr(fmnist, "ROOT", folder)
    return folder, git(folder, "rev-parse", "HEAD")


CHANGES = {
    "train.py": "+", "fmnist/nn/layers.py": "+", "fmnist/speed/integers.c": "+", "conf/config.yaml": "+",
    "sweep/study/lr.yaml": "+", "README.md": "",  # these are tracked, those that follow are new
    "fmnist/ideas/mine.py": "+", "conf/experiment/mine.yaml": "+", "sweep/study/mine.yaml": "+", "notes.py": "",
    "fmnist/notes.txt": "", "outputs/run/result.json": "",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_commit_has_a_plus_where_code_or_configs_differ_from_it(name, checkout):
    folder, commit = checkout
    assert fmnist.commit.__wrapped__() == commit
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("2\n", encoding="utf-8")
    assert fmnist.commit.__wrapped__() == commit + CHANGES[name]


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_a_variable_of_git_misleads_nobody(variable, checkout, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path / "other"))
    assert fmnist.commit.__wrapped__() == checkout[1]


def test_a_worktree_is_a_checkout(checkout, tmp_path, monkeypatch):
    git(checkout[0], "worktree", "add", "-q", str(tmp_path / "tree"))
    monkeypatch.setattr(fmnist, "ROOT", tmp_path / "tree")
    assert fmnist.commit.__wrapped__() == checkout[1]


def test_the_repository_around_a_wheel_is_not_ours(checkout, monkeypatch):
    packages = checkout[0] / ".venv" / "lib"
    packages.mkdir(parents=True)
    monkeypatch.setattr(fmnist, "ROOT", packages)
    assert fmnist.commit.__wrapped__() is None


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "git"), subprocess.CalledProcessError(128, "git")])
def test_without_git_there_is_no_commit(error, checkout, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("subprocess.run", fails)
    assert fmnist.commit.__wrapped__() is None
