"""The fast step changes nothing but the last bits: the same runs by autograd alone, `fmnist.speed` unused."""

import pytest
import torch
from helpers import SMALL, Crash, assert_same_run, crash_in, make_config, rows_of
from training import KINDS, PlainStep

from fmnist.record import checkpoint
from fmnist.train import engine

AUGMENTED = {"augment.shift": 2, "augment.flip": 0.5, "augment.cutout": 6, "augment.mixup": 0.4}
ALSO = {
    "switches": {"model.hidden": [20, 12], "norm": "batch", "skip": True, "dropout": 0.3, "label_smoothing": 0.1},
    "layer norm": {"model.hidden": [20, 12], "norm": "layer", "skip": True, "model.activation": "gelu"},
    "full batch": {"model.hidden": [20], "batch_size": None, "loss": "report_rows"},
    "report": {"model.hidden": [20], "loss": "report", "init": "report", "optim": "sgd", "lr": 1e-3},
    "augmented": {"model.hidden": [20], **AUGMENTED, "optim": "muon", "ema": 0.9, "select": "average"},
    "noisy": {"model.hidden": [20], "noise": 0.2, "mask": 0.2},
    "brier": {"model.hidden": [20], "loss": "brier", "model.activation": "silu", "optim": "lion", "lr": 1e-3},
    "denoising": {"model": "autoencoder", "model.hidden": [20, 6], "noise": 0.2, "mask": 0.2, "norm": "batch"},
}


@pytest.mark.few(5)
@pytest.mark.parametrize("kind", [*KINDS, *ALSO])
def test_a_run_by_autograd_alone_is_the_same_run(kind, tmp_path, monkeypatch):
    config = make_config(**{**SMALL, "figures": False, **{**KINDS, **ALSO}[kind]})
    (fast,) = engine.fit([config], [tmp_path / "fast"])
    monkeypatch.setattr("fmnist.train.stack.TapedStep", PlainStep)
    (plain,) = engine.fit([config], [tmp_path / "plain"])
    assert plain.metrics == pytest.approx(fast.metrics, rel=1e-8, abs=1e-8)
    for one, other in zip(rows_of(tmp_path / "fast"), rows_of(tmp_path / "plain"), strict=True):
        assert one == pytest.approx(other, rel=1e-8, abs=1e-8)
    states = [checkpoint.load(tmp_path / name / "last.safetensors") for name in ("fast", "plain")]
    assert states[0].pop("kernels") != states[1].pop("kernels") == {}
    for state in states:
        del state["seconds"], state["config_hash"]
    torch.testing.assert_close(*states, rtol=1e-8, atol=1e-8)


def test_a_run_by_autograd_alone_goes_on_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("fmnist.train.stack.TapedStep", PlainStep)
    config = make_config(**{**SMALL, "epochs": 5, "precision": "float32", **ALSO["switches"]})
    engine.fit([config], [tmp_path / "straight"])
    with monkeypatch.context() as patch:
        crash_in(patch, 3)
        with pytest.raises(Crash):
            engine.fit([config], [tmp_path / "stopped"])
    engine.fit([config], [tmp_path / "stopped"])
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")
