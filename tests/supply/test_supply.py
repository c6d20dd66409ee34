"""What comes from others does no more than it is meant to: no program of ours reaches or serves a network unasked.

A library that is preloaded (network.c) refuses all such calls of the C library, whoever makes them, and notes them.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from sweeping import until

from fmnist import ROOT

WORK = ("data.limit=300", "epochs=2", "batch_size=50")
HERE = Path(__file__).parent
COMPILER = shutil.which("cc")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library, compiled."""
    if COMPILER is None or not sys.platform.startswith("linux"):
        pytest.skip("a C compiler on Linux is needed to see the calls of a program")
    file = tmp_path_factory.mktemp("network") / "network.so"
    command = [
        COMPILER,
        "-O1",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        str(HERE / "network.c"),
        "-o",
        str(file),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return file


def reached(library, folder, *words):
    """Run Python with these arguments; its attempts to reach a network, and how it ended."""
    log = folder / "network"
    env = os.environ | {"LD_PRELOAD": str(library), "NETWORK": str(log), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else [], done


@pytest.mark.parametrize("call", [
    "socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo('example.org', 80)",
    "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))", "socket.create_server(('127.0.0.1', 0))",
])  # fmt: skip
def test_an_attempt_is_refused_and_seen(library, call, tmp_path):
    calls, done = reached(library, tmp_path, "-c", f"import socket; {call}")
    assert calls
    assert "OSError" in done.stderr or "gaierror" in done.stderr


@pytest.mark.long
def test_training_and_its_report_reach_for_no_network(library, tmp_path):
    run = (str(ROOT / "train.py"), "model=autoencoder", "model.hidden=[16,2]", *WORK, "hydra.run.dir=run")
    for words in (run, ("-m", "fmnist.report", "run")):
        calls, done = reached(library, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        assert not calls
    assert list(tmp_path.glob("run/*/events.out.tfevents.*"))


@pytest.mark.long
def test_sweeps_searches_and_evaluation_reach_for_no_network(library, tmp_path):
    pytest.importorskip("optuna")
    train, own = str(ROOT / "train.py"), ("model=mlp1", "model.hidden=[8]", *WORK, "hydra.launcher.workers=1")
    for words in (
        (train, "-m", *own, "seed=0,1", "hydra.sweep.dir=s"),
        (train, "-m", *own, "hydra/sweeper=optuna", "lr=interval(1e-3,1e-2)", "hydra.sweeper.n_trials=2",
         "hydra.sweep.dir=o"),
        ("-m", "fmnist.evaluate", "s/seed-0"), ("-m", "fmnist.data"),
    ):  # fmt: skip
        calls, done = reached(library, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        assert not calls


def listening(pid):
    """Addresses at which a process listens by TCP, in the kernel's hexadecimal."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a file that has been closed meanwhile
            own.add(os.readlink(link))
    rows = [row.split() for table in ("tcp", "tcp6")
            for row in Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]]  # fmt: skip
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


@pytest.mark.long
def test_make_tensorboard_serves_this_machine_alone_and_prints_the_address(tmp_path):
    log, run = tmp_path / "log", tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "train").mkdir()
    (run / "train" / "events.out.tfevents.1.here").touch()
    with open(log, "wb") as out:
        make = ["make", "--no-print-directory", "-n", "tensorboard", f"LOGDIR={run}", "ARGS=--port=0"]
        told = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
        command = told.stdout.splitlines()[-1]
        with subprocess.Popen(["sh", "-c", f"exec {command}"], cwd=ROOT, stdout=out, stderr=out) as process:
            try:
                pattern = r"http://127\.0\.0\.1:\d+/"
                found = until(lambda: re.search(pattern, log.read_text(encoding="utf-8")), "the address is printed")
                with urllib.request.urlopen(found[0], timeout=60) as page:
                    assert b"TensorBoard" in page.read()
                assert listening(process.pid) == {"0100007F"}  # 127.0.0.1
            finally:
                process.terminate()
