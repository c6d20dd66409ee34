"""Train one run (or, with -m, many): config in, record and objective out. `python train.py --help` lists the knobs."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # before training begins Ctrl-C ends the command: no traceback

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode

from fmnist import ROOT, UserError
from fmnist.config.parse import check_machine, parse
from fmnist.launch.commands import command, curves, expanded, near, quoted
from fmnist.launch.groups import stackable
from fmnist.launch.locks import alone
from fmnist.launch.machine import set_threads, uncollected
from fmnist.launch.manual import advising
from fmnist.launch.runs import corrected, reason_last
from fmnist.launch.trouble import trouble
from fmnist.program.output import lenient_output
from fmnist.record.result import check_directory
from fmnist.sources.fetch import digest, read_ahead

sys.path.insert(0, str(ROOT / "sweep"))  # Hydra looks for plugins (hydra_plugins/) on the path; first for our own


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")
@stackable
def main(given: Any) -> float | None:
    """One run. A user's mistake is one line and status 2; in a sweep that job fails and the others go on."""
    settings = HydraConfig.get()
    directory = Path(settings.runtime.output_dir)
    if settings.job.chdir:
        os.chdir(settings.runtime.cwd)  # paths mean what they meant where the command was typed
    try:
        config = parse(given)
        check_machine(config)
        check_directory(config, directory, digest)
        read_ahead(config.data.name, config.data.dir)
        set_threads()
        with uncollected():  # torch comes with it: only now, when the config is known to be right
            from fmnist.train.engine import fit
        with alone(directory), corrected(directory), reason_last():
            (outcome,) = fit([config], [directory])
        if outcome.error is None:
            if settings.mode == RunMode.RUN:
                print(f"curves: {curves(directory)}")
            return outcome.objective
        message, status = outcome.error, 1
    except SystemExit:  # a signal, which training has heeded
        if settings.mode == RunMode.RUN:
            own = [word for word in sys.argv[1:] if not word.startswith("hydra.run.dir=")]
            print(f"this continues it:\n  {command(*own, quoted('hydra.run.dir', near(directory)))}")
        raise
    except Exception as error:
        wrong = trouble(error)
        if wrong.trace:
            logging.getLogger("train").exception("failed")
        message, status = wrong.text, 2 if isinstance(error, UserError) else 1
    if settings.mode == RunMode.MULTIRUN:
        logging.getLogger("train").error("error: %s", message)  # Hydra tells the first failure only, and no log
        raise CompactHydraException(message)
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    lenient_output(OSError)  # all that is printed is in train.log too
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its caches, and of numbers in names
    sys.argv[1:] = expanded(sys.argv[1:])
    with advising(sys.argv[1:]):
        main()
