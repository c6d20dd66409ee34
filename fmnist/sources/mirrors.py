"""Where Fashion-MNIST's files come from: three sources, in the order in which they are tried.

Each is a function of an empty folder to work in. It returns the folder that then holds the files, or raises OSError.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SYSTEM = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package puts its files
PACKAGE = "dataset-fashion-mnist"
PATIENCE = 8.0  # seconds that a mirror may take to send its next bytes
LIMIT = 600.0  # seconds that a program which downloads may take in all


def _run(*command: str, cwd: Path) -> None:
    """Run a program that downloads. Errors: OSError with the last line that it wrote to stderr, or if it takes long.

    As a process of its own it can be ended when it hangs, and what it prints is kept from the terminal.
    """
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", errors="replace", timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise OSError(f"{Path(command[0]).name} did not end within {LIMIT:g} s") from None
    if done.returncode:
        raise OSError((done.stderr.strip() or f"{command[0]} failed").splitlines()[-1])


# Torchvision sets no time limit. Here one is set for all sockets, which is possible in a process that has no others.
DOWNLOAD = """
import socket, sys
from torchvision.datasets import FashionMNIST
socket.setdefaulttimeout(float(sys.argv[1]))
try:
    FashionMNIST(".", download=True)
except Exception as error:
    sys.exit(" ".join(str(error).split()))
"""


def mirrors(scratch: Path) -> Path:
    """Download from the official mirrors by torchvision."""
    _run(sys.executable, "-c", DOWNLOAD, str(PATIENCE), cwd=scratch)
    return scratch / "FashionMNIST" / "raw"


def package(scratch: Path) -> Path:
    """Download and unpack the Debian package. It is not installed, which root alone could do."""
    apt_get = ("apt-get", "-q", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10")
    try:
        _run(*apt_get, "download", PACKAGE, cwd=scratch)
    except OSError:
        if os.geteuid() != 0:
            raise
        _run(*apt_get, "update", cwd=scratch)  # a fresh container has no package lists yet
        _run(*apt_get, "download", PACKAGE, cwd=scratch)
    _run("dpkg-deb", "-x", *(path.name for path in scratch.glob("*.deb")), ".", cwd=scratch)
    return scratch / SYSTEM.relative_to("/")


SOURCES: dict[str, Callable[[Path], Path]] = {
    "the system's copy": lambda scratch: SYSTEM,
    "the official mirrors": mirrors,
    "the Debian package": package,
}
