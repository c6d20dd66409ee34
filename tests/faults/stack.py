"""Four runs in one stack, as a worker of a sweep trains them: `python tests/faults/stack.py FOLDER KNOB=VALUE ...`."""

import logging
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from fmnist import ROOT, UserError
from fmnist.config.parse import parse
from fmnist.launch.callbacks import own
from fmnist.launch.runs import make_folder
from fmnist.launch.trouble import trouble
from fmnist.launch.worker import train_group

RUNS = 4


def main(folder: str, *overrides: str) -> int:
    """Train them; 0 if all are done. One line for each that is not."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configs = [parse(own(compose("config", [*overrides, f"seed={seed}"]))) for seed in range(RUNS)]
    try:
        directories = [Path(folder).absolute() / f"seed-{config.seed}" for config in configs]
        for directory in directories:
            make_folder(directory)  # as launchers do it
        outcomes = train_group(configs, directories)
    except (UserError, OSError) as error:
        print(f"error: {trouble(error).text}")
        return 2 if isinstance(error, UserError) else 1
    for outcome in outcomes:
        if outcome.error:
            print(f"error: {outcome.error}")
    return int(any(outcome.error for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
