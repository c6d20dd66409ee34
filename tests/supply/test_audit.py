"""`make audit` says what pip-audit has found, and does not take a database that is out of reach for a good result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).with_name("audit.py")
FAILED = "Traceback (most recent call last):\n  ...\nConnectionError: Could not connect to PyPI's vulnerability feed\n"
GOOD = {"name": "tqdm", "version": "4.70.1", "vulns": []}
BAD = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["13.0.0"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.14.1)"}


def audited(tmp_path, packages, said=""):
    """Status, output and error of the audit, where pip-audit finds these packages and says so."""
    out = json.dumps({"dependencies": packages, "fixes": []}) if packages is not None else ""
    stub = f"import sys\nprint({out!r})\nprint({said!r}, end='', file=sys.stderr)\nsys.exit({int(packages is None)})\n"
    (tmp_path / "pip_audit.py").write_text(stub, encoding="utf-8")
    done = subprocess.run([sys.executable, str(AUDIT), "folder"], env=os.environ | {"PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_holes_and_what_was_not_looked_up_are_told(tmp_path):
    told = "1 packages were looked up, 0 holes are known\nnot looked up: torch\n"
    assert audited(tmp_path, [GOOD, UNKNOWN]) == (0, told, "")
    told = "pillow 1.0: PYSEC-1, mended in 13.0.0\n2 packages were looked up, 1 holes are known\n"
    assert audited(tmp_path, [GOOD, BAD]) == (1, told, "")


@pytest.mark.parametrize(("packages", "said", "reason"), [
    (None, FAILED, "ConnectionError: Could not connect"), (None, "", "it said nothing"),
    ([UNKNOWN], "No known vulnerabilities found\n", "Dependency not found on PyPI"),
])  # fmt: skip
def test_a_database_that_gives_no_answer_is_one_line_and_no_good_result(packages, said, reason, tmp_path):
    status, out, error = audited(tmp_path, packages, said)
    assert (status, out, error.count("\n")) == (1, "", 1)
    assert error.startswith("error: nothing was audited")
    assert reason in error
