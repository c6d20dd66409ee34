"""What a run takes of the machine: open files, processes, calls to the disk. They are counted, not timed."""

import json
import subprocess
import sys

import pytest

from fmnist import ROOT

# A fresh process trains as many runs as it is told to in one stack, for as many epochs, and says what that took.
SCRIPT = """
import json, os, resource, subprocess, sys
from collections import Counter
from pathlib import Path

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
calls = Counter()
started = []  # command lines of processes

def note(event, args):
    if event == "open":
        calls.update([event])
    elif event == "subprocess.Popen":
        started.append(args[1])

sys.addaudithook(note)
from helpers import make_config
from fmnist.sources.fetch import read_ahead
from fmnist.train.engine import fit

read_ahead("fashion", None, keep=True)
os.fsync = lambda descriptor: calls.update(["fsync"])
imported = list(started)

def trained(runs, epochs, folder):
    knobs = {"device": "cpu", "data.limit": 20, "epochs": epochs, "model.hidden": [2], "batch_size": 16,
             "save_every": 3600.0}  # a GPU keeps files open for itself
    before, files = Counter(calls), len(os.listdir("/proc/self/fd"))
    outcomes = fit([make_config(**knobs, seed=seed) for seed in range(runs)],
                   [Path(folder, str(seed)) for seed in range(runs)])
    assert all(outcome.error is None for outcome in outcomes), outcomes
    assert len(os.listdir("/proc/self/fd")) <= files
    return calls - before

"""


def in_a_fresh_process(folder, code):
    done = subprocess.run([sys.executable, "-c", SCRIPT + code, str(folder)], cwd=ROOT, capture_output=True, text=True,
                          env={"PYTHONPATH": "tests:.", "OMP_NUM_THREADS": "1"}, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """What runs of two and of twelve epochs took, and what the whole process did."""
    code = """
trained(1, 1, sys.argv[1] + "/warm")
two, twelve = (trained(1, epochs, f"{sys.argv[1]}/{epochs}") for epochs in (2, 12))
both = trained(2, 2, sys.argv[1] + "/both")
print(json.dumps({"two": two, "twelve": twelve, "both": both,
                  "imported": imported, "started": started}))
"""
    return in_a_fresh_process(tmp_path_factory.mktemp("few"), code)


@pytest.mark.long
def test_an_epoch_opens_three_files_for_its_row_and_waits_for_no_disk(few):
    assert few["twelve"]["open"] - few["two"]["open"] == 10 * 3  # metrics.jsonl and its mirror, in two parts
    assert few["twelve"]["fsync"] == few["two"]["fsync"] <= 28  # five of them for the projector, two for mistakes.json


def test_git_is_asked_once_when_the_code_is_imported_and_runs_start_no_process(few):
    assert [command[0] for command in few["imported"] if "git" in command[0]] == ["git"]
    assert few["started"] == few["imported"]


def test_a_second_run_of_a_stack_reads_no_data_again(few):
    assert few["both"]["open"] <= 2 * few["two"]["open"]


@pytest.mark.long
def test_two_hundred_runs_of_a_stack_need_few_open_files(tmp_path):
    code = "print(json.dumps(trained(200, 2, sys.argv[1])))"
    in_a_fresh_process(tmp_path, code)
    statuses = [json.loads((tmp_path / str(run) / "result.json").read_text(encoding="utf-8"))["status"]
                for run in range(200)]  # fmt: skip
    assert statuses == ["done"] * 200
    assert len((tmp_path / "199" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2
