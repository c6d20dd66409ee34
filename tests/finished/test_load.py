"""Finished runs, loaded together: they say what each says by itself."""

import pytest
import torch
from helpers import SMALL, make_config
from training import KINDS

from fmnist import UserError
from fmnist.finished import load
from fmnist.finished.load import Asked, ask, stacks
from fmnist.record.result import read_result
from fmnist.train import engine
from fmnist.train.restore import restore
from fmnist.view.answers import answers


def trained(folder, **knobs):
    """The directories of three runs that were trained together, with different seeds and learning rates."""
    configs = [make_config(**SMALL | {"epochs": 1, "figures": False} | knobs, seed=seed, lr=1e-3 * (seed + 1))
               for seed in range(3)]  # fmt: skip
    directories = [folder / str(seed) for seed in range(3)]
    engine.fit(configs, directories)
    return directories


@pytest.mark.parametrize("kind", ["mlp", "vae"])
def test_runs_of_a_kind_are_loaded_in_stacks_and_say_what_each_says_alone(kind, tmp_path, monkeypatch):
    directories = trained(tmp_path, **KINDS[kind])
    monkeypatch.setattr(load, "TOGETHER", 2)
    assert [places for places, _ in stacks(directories)] == [[0, 1], [2]]
    for directory, asked in zip(directories, ask(directories), strict=True):
        stack = restore(directory)
        for part, split in (("validation", stack.dataset.validation), ("test", stack.dataset.test)):
            (alone,) = answers(stack, part, split)
            assert asked.parts[part].metrics.keys() == alone.metrics.keys()
            for name, metric in alone.metrics.items():
                torch.testing.assert_close(asked.parts[part].metrics[name], metric)
        recorded = read_result(directory)["metrics"]
        for name, mean in asked.test.means().items():
            assert mean == pytest.approx(recorded[f"test/{name}"], rel=1e-9)


def test_runs_of_other_kinds_and_runs_that_are_gone_do_not_stop_the_others(tmp_path):
    first, second, third = trained(tmp_path / "mlp", **KINDS["mlp"])
    (other, *_) = trained(tmp_path / "linear", **KINDS["linear"])
    (second / "last.safetensors").unlink()
    (third / "last.safetensors").write_bytes((other / "last.safetensors").read_bytes())
    found = ask([first, second, tmp_path / "nothing", other, third])
    assert [type(each) for each in found] == [Asked, UserError, UserError, Asked, UserError]
    assert [each.directory for each in found if isinstance(each, Asked)] == [first, other]
    assert "last.safetensors is missing" in str(found[1])
    assert str(found[4]).startswith(f"{third}: 0.weight is [10, 784] in the checkpoint, [20, 784] here")


def test_what_an_autoencoder_makes_of_images_is_kept_if_asked_for(tmp_path):
    (directory, *_) = trained(tmp_path, **KINDS["code"])
    (asked,) = ask([directory], pictures=True)
    x = asked.dataset.test.images.double() / 255
    error = (asked.test.pictures.double() / 255 - x).square().mean(-1)
    torch.testing.assert_close(error, asked.test.metrics["mse"], atol=0.01, rtol=0.01)
    assert ask([directory])[0].test.pictures is None
