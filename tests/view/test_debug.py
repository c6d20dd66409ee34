"""debug=true: a tiny run by autograd whose every number is checked; it is no other run's."""

import logging
import os
from pathlib import Path

import pytest
import torch
from helpers import make_config, train_py
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals

from fmnist import ROOT
from fmnist.config.parse import config_hash
from fmnist.launch import manual  # noqa: F401 - the resolvers of conf/config.yaml
from fmnist.nn import step
from fmnist.record.result import check_directory, of_run
from fmnist.report.comparison import newest_sweep
from fmnist.train import engine
from fmnist.train.restore import assemble
from fmnist.view.debug import DebugStep
from fmnist.view.opening import opening, widths_in_words


@pytest.mark.parametrize(
    ("knobs", "steps"),
    [({}, 2), ({"data.split": 1.0}, 2), ({"batch_size": None}, 2), ({"data.limit": 10, "norm": "batch"}, 2),
     ({"model": "autoencoder", "model.hidden": [8], "anomaly.normal": 1}, 2)],
)  # fmt: skip
def test_it_takes_two_steps_an_epoch_of_a_few_images(knobs, steps):
    config = make_config(debug=True, **knobs)
    assert config.epochs == 3
    stack = assemble([config])
    assert type(stack.step) is DebugStep
    assert steps <= stack.feed.count <= steps + (config.anomaly.normal is not None)  # of a class there may be more
    assert len(stack.dataset.train.labels) <= 64


def test_it_is_another_run_and_without_it_a_run_is_what_it_was(tmp_path):
    config, debugged = make_config(), make_config(debug=True)
    assert config_hash(config) == config_hash(make_config(debug=False)) == "248f538a93fb"
    assert len({config_hash(each) for each in (config, debugged, make_config(
        batch_size=debugged.batch_size, epochs=3, **{"data.limit": 64}))}) == 3  # fmt: skip
    engine.fit([debugged], [tmp_path])
    assert of_run(tmp_path) == debugged
    with pytest.raises(Exception, match="debug=True there, None here"):
        check_directory(config, tmp_path)
    check_directory(make_config(debug=True, epochs=1000), tmp_path)


def test_the_first_line_says_it_and_the_widths(caplog):
    stack = assemble([make_config(debug=True, **{"model.hidden": [20, 20, 20, 7]})])
    line = opening(stack, stack.common, 2, lambda device: True)
    assert line == ("mlp (784-[3 x 20]-7-10): 16,767 parameters, 51 training, 13 validation and 64 test images, "
                    "float32 on cpu, going on after epoch 2; debug=true: two steps an epoch by autograd, which checks "
                    "each number")  # fmt: skip
    assert widths_in_words([784, 300, 300, 10]) == "784-300-300-10"


def test_the_layer_that_overflows_is_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(RuntimeError, match=r"the layer \d \(Linear\) gives numbers that are not finite"):
        engine.fit([make_config(debug=True, lr=1e30)], [tmp_path])
    assert "failed: RuntimeError: the layer" in caplog.text


def test_the_operation_whose_gradient_is_no_number_is_named(monkeypatch):
    stack = assemble([make_config(debug=True)])
    batch = next(stack.feed.epoch(1))
    metrics = stack.criterion.metrics
    monkeypatch.setattr(stack.criterion, "metrics", lambda *given, **more: {
        "loss": metrics(*given, **more)["loss"] + 0 * (given[0][..., 0] * 0).sqrt()})  # fmt: skip
    with (
        pytest.warns(UserWarning, match="Error detected"),
        pytest.raises(RuntimeError, match="SqrtBackward0' returned nan"),
    ):
        stack.step(batch, [1e-3], [None])
    assert not torch.is_anomaly_enabled()
    assert isinstance(stack.step, step.Step)


def test_what_has_failed_is_told_once_and_in_the_last_line(tmp_path, capfd):
    assert train_py(tmp_path, "debug=true", "lr=1e30") == 1
    out, err = capfd.readouterr()
    assert err.splitlines()[-1].startswith("error: RuntimeError: the layer ")
    assert (out + err).count("Traceback (most recent call last)") == 1
    assert "HYDRA_FULL_ERROR" not in out + err


def test_its_directories_are_apart_and_no_report_takes_its_sweeps_for_the_newest(tmp_path, monkeypatch):
    setup_globals()
    Plugins.instance()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for typed, beginning in ((["debug=true"], "outputs/debug/2"), ([], "outputs/2")):
            assert str(compose("config", typed, return_hydra_config=True).hydra.run.dir).startswith(beginning)
    monkeypatch.chdir(tmp_path)
    for age, sweep in enumerate(("outputs/debug/new", "outputs/old")):
        (tmp_path / sweep).mkdir(parents=True)
        (tmp_path / sweep / "multirun.yaml").touch()
        os.utime(tmp_path / sweep / "multirun.yaml", (1e9 - age, 1e9 - age))
    assert newest_sweep() == Path("outputs/old")
