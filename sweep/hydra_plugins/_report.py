"""What a search has found: its best trial, and plots of all. Imported only for a search."""

import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna.visualization.matplotlib as plots
from hydra_plugins._search import Search
from hydra_plugins.search import of_runs
from omegaconf import OmegaConf
from optuna.trial import TrialState

from fmnist.launch.commands import command, near
from fmnist.program.files import replacing

log = logging.getLogger(__name__)

DRAWN: dict[str, Callable[..., Any]] = {  # name of the file: how Optuna draws it
    "history": plots.plot_optimization_history,
    "parallel": plots.plot_parallel_coordinate,
    "slices": plots.plot_slice,
    "importances": plots.plot_param_importances,
}


def report(search: Search) -> None:
    """Print the command that runs the best trial; write best.yaml and plots/*.png to the search's directory
    where it can be written to."""
    trials = search.optuna.get_trials(deepcopy=False)
    count = Counter(trial.state for trial in trials)
    if not count[TrialState.COMPLETE]:
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        why = "".join(f": {trial.user_attrs.get('error', 'their logs say why')}" for trial in failed[:1])
        print(f"error: no trial was finished, {len(failed)} of {len(trials)} failed{why}", file=sys.stderr)
        raise SystemExit(1)
    best = search.optuna.best_trial
    overrides, seeds, runs = search.overrides(best), search.space.typed_seeds, len(search.space.seeds)
    line = command(*(["-m"] if seeds else []), *overrides, *seeds)
    print(f"{len(trials)} trials: {count[TrialState.COMPLETE]} finished, {count[TrialState.PRUNED]} pruned, "
          f"{count[TrialState.FAIL]} failed; plots in {near(search.directory / 'plots')}")  # fmt: skip
    print(f"best: trial {best.number}, {search.metric} {best.value:.4f}{of_runs(runs)}\n{line}", flush=True)
    if search.refused is not None:
        return
    with replacing(search.directory / "best.yaml") as file:
        found = {"trial": best.number, search.metric: best.value, "runs": runs, "overrides": overrides}
        file.write(f"# {line}\n{OmegaConf.to_yaml(found)}")
    draw(search, search.directory / "plots")


def draw(search: Search, directory: Path) -> None:
    """Optuna's plots as PNG files. Importances need several finished trials that differ in their results."""
    finished = search.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    plt.switch_backend("agg")
    for name, plot in DRAWN.items():
        if name == "importances" and len({trial.value for trial in finished}) < 4:
            continue
        try:
            directory.mkdir(exist_ok=True)
            with plt.style.context("default"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the functions call themselves experimental; one trial has no range
                axes = np.atleast_1d(plot(search.optuna, target_name=search.metric))
            figure = axes[0].figure
            figure.set_size_inches(max(8, 3.5 * len(axes)), 5)
            figure.savefig(directory / f"{name}.png", dpi=100, bbox_inches="tight")
        except Exception as error:  # whatever: the search has been done
            log.warning(f"{near(directory / name)}.png cannot be drawn: {type(error).__name__}: {error}")
        finally:
            plt.close("all")
