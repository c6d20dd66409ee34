"""`make audit` says what pip-audit has found, and does not take a database that is out of reach for a good result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).with_name("audit.py")
FAILED = "Traceback (most recent call last):\n  ...\nConnectionError: Could not connect to PyPI's vulnerability feed\n"


@pytest.mark.parametrize(("said", "status", "shown"), [
    ("No known vulnerabilities found\n", 0, "No known vulnerabilities found\n"),
    ("Found 1 known vulnerability in 1 package\n", 1, "Found 1 known vulnerability in 1 package\nName Version\n"),
    (FAILED, 1, ""), ("", 0, ""),
])  # fmt: skip
def test_what_pip_audit_says_is_passed_on_and_no_answer_is_one_line(said, status, shown, tmp_path):
    stub = f"import sys\nprint({said!r}, end='', file=sys.stderr)\nif {status}: print('Name Version')\nsys.exit({status})"
    (tmp_path / "pip_audit.py").write_text(stub, encoding="utf-8")
    done = subprocess.run([sys.executable, str(AUDIT), "folder"], env=os.environ | {"PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout == shown
    if shown:
        assert (done.stderr, done.returncode) == ("", status)
    else:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: nothing was audited")
