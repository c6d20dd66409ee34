"""A process that has imported all that a run needs, and forks a child for each command it is asked to run.

Torch takes seconds to import, a tiny run a fraction of one. It reads a request a line from its standard input, as JSON,
and answers each with a line:

    {"script", "arguments", "folder", "environment", "output", "seconds"}   the status, minus a signal; null: it hung
    {"normal": folder}                                                      what faults/normal.py makes of it

Its arguments are the folder of the project, and the modules that it imports instead of all. "environment" is what is
added to its own. "error": where what is printed as an error goes, if not to the output.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = Path(sys.argv[1])
MODULES = (  # what a run imports
    "train", "hydra", "fmnist.launch.forkserver", "fmnist.launch.callbacks", "fmnist.train.engine",
    "tensorboard.plugins.hparams.summary_v2", "torch.utils.tensorboard.summary", "hydra_plugins.stacked",
    "hydra_plugins.points", "hydra_plugins.studies", "hydra._internal.utils", "sklearn.metrics",
)  # fmt: skip


def child(request: dict[str, Any]) -> int:
    """Be the command: its status. As the interpreter does it, exit handlers are called."""
    os.setsid()
    null, output = os.open(os.devnull, os.O_RDONLY), os.open(request["output"], os.O_WRONLY | os.O_CREAT, 0o666)
    error = os.open(request["error"], os.O_WRONLY | os.O_CREAT, 0o666) if "error" in request else output
    for descriptor, source in ((0, null), (1, output), (2, error)):
        os.dup2(source, descriptor)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    if "FAULTS_DIR" in request["environment"]:
        import ctypes

        ctypes.CDLL(os.environ["LD_PRELOAD"]).faults_arm()
    sys.argv = [request["script"], *request["arguments"]]
    status: Any = 0
    try:
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as leaving:
        status = leaving.code
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status if isinstance(status, int) else int(status is not None)


def run(request: dict[str, Any]) -> int | None:
    """Run a command in a child; its status, minus the signal that killed it. None: it did not end in time."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = child(request)
        finally:
            os._exit(status)
    ended = select.poll()
    descriptor = os.pidfd_open(pid)
    ended.register(descriptor, select.POLLIN)
    hung = not ended.poll(request["seconds"] * 1000)
    if hung:
        os.kill(pid, signal.SIGKILL)
    os.close(descriptor)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if hung else status


def warm_up() -> None:
    """Import all, and compose a config once: Hydra's grammar learns what it has parsed. Children share the memory."""
    sys.path[:0] = [str(ROOT), str(ROOT / "sweep"), str(HERE), str(HERE / "faults")]
    for module in sys.argv[2:] or MODULES:
        importlib.import_module(module)
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        typed = ["data=idx", "data.dir=/a/b", "model=mlp1", "model.hidden=[4]", "epochs=3", "hydra.run.dir=run"]
        compose("config", typed, return_hydra_config=True)
    gc.collect()
    gc.freeze()
    gc.disable()  # a child lives for a fraction of a second


def normal(folder: str) -> dict[str, str]:
    """See faults/normal.py, which imports torch."""
    from normal import normal as of_folder

    return of_folder(Path(folder))


def main() -> None:
    """Answer requests until there are no more."""
    warm_up()
    answers, sys.stdout = sys.stdout, sys.stderr  # nobody else may write there
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = normal(request["normal"]) if "normal" in request else run(request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
