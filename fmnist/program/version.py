"""Which code runs: the commit of the checkout, and the versions of the packages that decide the metrics."""

import functools
import os
import platform
import subprocess

from fmnist import ROOT, __version__

CODE = ("train.py", "conf", "sweep", "fmnist/*.py", "fmnist/*.c", "fmnist/*.h")  # what decides a run, as git names it


@functools.cache
def commit() -> str | None:
    """The checkout's commit, with "+" where code or configs differ from it; None outside a checkout. fmnist.train.run
    asks for it when the code is imported, so that a worker that lives for hours records the code that it runs."""
    if not (ROOT / ".git").exists():  # a repository around a wheel is not ours
        return None
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "--no-optional-locks", "status", "--porcelain=v2",
               "--branch", "--untracked-files=all", "--", *CODE]  # fmt: skip
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        told = subprocess.run(command, capture_output=True, check=True, env=plain).stdout.decode(errors="replace")
    except (OSError, subprocess.CalledProcessError):
        return None
    first, *others = told.splitlines()
    return first.removeprefix("# branch.oid ") + "+" * any(not line.startswith("#") for line in others)


@functools.cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide the metrics."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("torch", "hydra-core", "tensorboard")}
    return {"python": platform.python_version(), "fmnist": __version__, **packages}
