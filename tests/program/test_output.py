"""Output that ends no command, and the status with which commands end."""

import subprocess
import sys

import pytest

from fmnist import ROOT
from fmnist.program.output import lenient_output

PRINT = "import logging, os, sys\nfrom fmnist.program.output import lenient_output, run_command\n"


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
    lenient_output()
    assert sys.stdout is cell
    assert sys.stderr is None
