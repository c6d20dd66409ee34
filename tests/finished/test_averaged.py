"""The mean of the weights of runs."""

import pytest
import torch
from helpers import SMALL, make_config, refuses

from fmnist.evaluate import evaluate
from fmnist.extend import extend
from fmnist.finished.averaged import WeightSum, averaged, check_new, estimate_statistics, save, starts
from fmnist.finished.load import ask
from fmnist.record import checkpoint
from fmnist.report.comparison import read_one
from fmnist.train import engine
from fmnist.train.restore import assemble

KNOBS = SMALL | {"epochs": 4, "model.hidden": [16], "batch_norm": True, "lr": 0.01}


def trained(folder, **apart):
    """Two runs that differ in some knobs, each with a pair of values."""
    configs = [make_config(**KNOBS | {name: pair[run] for name, pair in apart.items()}) for run in (0, 1)]
    directories = [folder / str(run) for run in (0, 1)]
    for config, directory in zip(configs, directories, strict=True):
        engine.fit([config], [directory])
    return configs, directories


def test_the_average_of_weights_is_their_mean_and_is_kept_as_a_run(tmp_path):
    configs, directories = trained(tmp_path, lr=(0.01, 0.02))
    summed = WeightSum()
    ask(directories, each=summed)
    stack, said = averaged(directories[0], summed, None)
    weights = [checkpoint.load(directory / "last.safetensors")["weights"] for directory in directories]
    for name, value in stack.weights(0).items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(value, (weights[0][name] + weights[1][name]) / 2)
    assert starts(configs) == 1
    save(tmp_path / "kept", stack, said, directories[0], directories)
    found = evaluate(tmp_path / "kept")
    assert found["test/accuracy"] == pytest.approx(said["test"].means()["accuracy"])
    assert found["test/accuracy"] > 0.5  # of runs with one start
    assert read_one(tmp_path / "kept").status == "averaged"  # so it is no run of a sweep
    kept = checkpoint.load(tmp_path / "kept" / "last.safetensors")
    assert kept["members"] == [str(directory) for directory in directories]
    refuses(lambda: extend([tmp_path / "kept"], 9), "an average of weights, which cannot be trained on")
    refuses(lambda: check_new(tmp_path / "kept"), "--save must name a new directory")


def test_statistics_are_estimated_anew_and_are_those_of_the_training_rows():
    stack = assemble([make_config(**KNOBS)])
    first, norm = stack.model[0], stack.model[1]
    norm.running_mean.fill_(5)
    estimate_statistics(stack)
    x = stack.dataset.train.images.to(stack.dtype) / 255  # fewer than are a batch
    product = x @ first.weight[0].mT + first.bias[0]
    torch.testing.assert_close(norm.running_mean[0], product.mean(0))
    torch.testing.assert_close(norm.running_var[0], product.var(0))
    assert norm.momentum == 0.1
    assert not stack.model.training


def test_networks_that_differ_have_no_average(tmp_path):
    configs, directories = trained(tmp_path, **{"model.hidden": ([8], [9]), "seed": (0, 1)})
    summed = WeightSum()
    ask(directories, each=summed)
    assert not summed.agree
    assert starts(configs) == 2
