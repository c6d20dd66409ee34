"""A stack of K runs is K runs: every model, data set and switch trains; curves, checkpoints and states agree."""

import itertools
import json

import pytest
import torch
from helpers import MODELS, SMALL, assert_same_run, half_long, make_config, rows_of, tiny
from training import PlainStep, assert_all_weights_have_moved

from fmnist import UserError
from fmnist.data.dataset import load
from fmnist.record import checkpoint
from fmnist.train import engine
from fmnist.train.stack import Stack

STACKS = {
    "seeds": [{"seed": 0}, {"seed": 1}, {"seed": 0}],
    "one shared order": [{"seed": 0, "order_seed": 7}, {"seed": 1, "order_seed": 7}],
    "learning rates": [{"lr": 1e-2}, {"lr": 1e-3}],
    "dropout": [{"dropout": 0.5}, {"dropout": 0.0}, {"dropout": 0.2}],
    "noisy input": [{"mask": 0.5, "noise": 0.1}, {"mask": 0.0, "noise": 0.3}],
    "smoothing": [{"label_smoothing": 0.1}, {"label_smoothing": 0.0}],
    "schedules": [{"schedule": "cosine"}, {"schedule": "one_cycle"}, {"schedule": "constant"}],
    # the gradient of a bias before batch norm is rounding alone, and decay with a small eps would make steps of it
    "optimizer": [{"optim.betas": [0.8, 0.9]}, {"optim.weight_decay": 0.1, "optim.eps": 1e-3}],
    "clipping": [{"grad_clip": 0.1}, {"grad_clip": None}],
    "initial weights": [{"init": "glorot", "init_scale": 0.1}, {"init": "report"}],
    "selection": [{"select": "best", "seed": 3}, {"select": "last", "patience": 1}],
}


SWITCHED = {"batch_norm": True, "skip": True, "dropout": 0.3}


def assert_a_stack_is_its_solos(configs, folder):
    together = [folder / f"stack{run}" for run in range(len(configs))]
    engine.fit(configs, together)
    for run, config in enumerate(configs):
        engine.fit([config], [folder / f"solo{run}"])
        assert_same_run(together[run], folder / f"solo{run}", rel=1e-9, abs=1e-9)


@pytest.mark.few(8)
@pytest.mark.parametrize(("name", "model", "switched"), half_long(list(STACKS), list(MODELS), [False, True]))
def test_a_stack_is_its_solos(name, model, switched, tmp_path):
    switches = SWITCHED if switched else {}
    configs = [make_config(model, **{**MODELS[model], **SMALL, **switches, **own}) for own in STACKS[name]]
    assert_a_stack_is_its_solos(configs, tmp_path)


@pytest.mark.few(4)
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_its_solos_without_the_fast_step(name, tmp_path, monkeypatch):
    monkeypatch.setattr("fmnist.train.stack.TapedStep", PlainStep)
    configs = [make_config(**{**MODELS["mlp"], **SMALL, **SWITCHED, **own}) for own in STACKS[name]]
    assert_a_stack_is_its_solos(configs, tmp_path)


AUGMENTED = {"augment.shift": 2, "augment.flip": 0.5, "augment.cutout": 6, "augment.mixup": 0.4}
LATER = {  # what all runs of a stack have, and each has for itself
    "averages": ({"batch_norm": True}, [{"ema": 0.9, "select": "average"}, {"ema": 0.99, "select": "last", "seed": 1}]),
    "equal averages": ({"ema": 0.9, "select": "average"}, [{"seed": 0}, {"seed": 1, "patience": 1}]),
    "augmented in one order": ({**AUGMENTED, "order_seed": 7}, [{"seed": 0}, {"seed": 1, "label_smoothing": 0.1}]),
    "augmented in own orders": (AUGMENTED, [{"order_seed": 7}, {"order_seed": 8}, {"order_seed": 7, "seed": 1}]),
    "augmented full batch": ({"augment.shift": 3, "batch_size": None}, [{"order_seed": 7}, {"order_seed": 8}]),
    "lion": ({"optim": "lion"}, [{"lr": 1e-3}, {"lr": 3e-3, "optim.betas": [0.8, 0.95], "optim.weight_decay": 0.1}]),
    "muon": ({"optim": "muon", "skip": True}, [{"lr": 1e-2}, {"lr": 3e-2, "optim.momentum": 0.8, "grad_clip": 0.5}]),
    "layer norm": ({"norm": "layer", "skip": True, "dropout": 0.3}, [{"seed": 0}, {"seed": 1}]),
    "gates": ({"gate": "sigmoid", "norm": "layer", "skip": True, "dropout": 0.3}, [{"seed": 0}, {"seed": 1}]),
    "stochastic depth": ({"skip": True, "dropout": 0.2}, [{"drop_path": 0.6}, {"drop_path": 0.0}, {"drop_path": 0.3}]),
    "annealed": (
        {"anneal": {"dropout": [0, 0.4, 0.2], "label_smoothing": [0.2, 0], "shift": [2, 0], "mixup": [0.5, 0]}},
        [{"seed": 0}, {"seed": 1, "lr": 0.01}],
    ),
    "brier": ({"loss": "brier"}, [{"lr": 1e-2}, {"lr": 3e-2}]),
    "silu": ({"model.activation": "silu"}, [{"seed": 0}, {"seed": 1}]),
    "leaky relu": ({"model.activation": "leaky_relu", "batch_size": None}, [{"seed": 0}, {"seed": 1}]),
}


@pytest.mark.few(9)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", LATER)
def test_a_stack_with_later_knobs_is_its_solos(name, model, tmp_path):
    common, own = LATER[name]
    configs = [make_config(**{"model": model, **MODELS[model], **SMALL, **common, **knobs}) for knobs in own]
    assert_a_stack_is_its_solos(configs, tmp_path)


@pytest.mark.parametrize("optim", ["adam", "lion", "muon"])
def test_a_stack_of_softmax_regressions_is_its_solos(optim, tmp_path):
    configs = [make_config("linear", optim=optim, **SMALL, seed=seed, lr=lr) for seed, lr in ((0, 1e-2), (1, 3e-2))]
    assert_a_stack_is_its_solos(configs, tmp_path)


@pytest.mark.parametrize("knobs", [{"batch_size": None}, {"batch_size": None, "loss": "report_rows"}, {"optim": "sgd"}])
def test_a_stack_is_its_solos_in_full_batch_and_with_sgd(knobs, tmp_path):
    configs = [make_config(**{**MODELS["mlp"], **SMALL, **knobs, "seed": seed, "lr": 0.01}) for seed in (0, 1)]
    assert_a_stack_is_its_solos(configs, tmp_path)


def test_seeds_matter_and_nothing_else_random_does(tmp_path):
    torch.manual_seed(1)
    engine.fit([make_config(**MODELS["mlp"], **SMALL, dropout=0.5)], [tmp_path / "first"])
    torch.manual_seed(2)
    state = torch.get_rng_state()
    engine.fit([make_config(**MODELS["mlp"], **SMALL, dropout=0.5)], [tmp_path / "again"])
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    engine.fit([make_config(**MODELS["mlp"], **SMALL, dropout=0.5, seed=1)], [tmp_path / "other"])
    assert_same_run(tmp_path / "first", tmp_path / "again")
    assert rows_of(tmp_path / "first") != rows_of(tmp_path / "other")


SWITCHES = [dict(zip(("dropout", "norm", "skip"), on, strict=True))
            for on in itertools.product((None, 0.5), (None, "batch", "layer"), (None, True))]  # fmt: skip
LOSSES = ["cross_entropy", "report", "report_rows"]


@pytest.mark.few(24)
@pytest.mark.parametrize(("switches", "model", "dataset", "loss"),
                         half_long(SWITCHES, list(MODELS), ["fashion", "idx"], LOSSES), ids=str)  # fmt: skip
def test_every_composition_trains_for_two_steps(switches, model, dataset, loss, tmp_path, device):
    where = {"data.limit": 100}
    if dataset == "idx":
        tiny(tmp_path)
        where = {"data.dir": str(tmp_path)}
    rows = 80 if dataset == "fashion" else 16
    config = make_config(model, dataset, loss=loss, epochs=1, batch_size=rows // 2, device=str(device),
                         **MODELS[model], **where, **switches)  # fmt: skip
    (outcome,) = engine.fit([config], [tmp_path / "run"])
    assert outcome.error is None
    assert 0 <= outcome.metrics["test/accuracy"] <= 1
    assert_all_weights_have_moved(config, tmp_path / "run")


@pytest.mark.parametrize(("knobs", "parameters"), [
    ({"model.hidden": [200]}, 159_010),
    ({"model.hidden": [300, 100]}, 266_610),
    ({"model.hidden": [300, 100], "batch_norm": True}, 266_610 + 2 * 400),
    ({"model": "deep", "model.width": 32, "model.depth": 20}, 784 * 32 + 32 + 19 * (32 * 32 + 32) + 330),
    ({"model": "deep", "model.width": 32, "model.depth": 20, "skip": True}, 784 * 32 + 32 + 19 * (32 * 32 + 32) + 330),
])  # fmt: skip
def test_parameter_counts(knobs, parameters):
    config = make_config(**{"data.limit": 100, **knobs})
    dataset = load(**vars(config.data))
    stack = Stack([config, config], dataset, torch.device("cpu"))
    assert sum(p.numel() for p in stack.model.parameters()) == 2 * parameters


def test_chunks_change_nothing_but_rounding(monkeypatch, tmp_path):
    config = make_config(**MODELS["mlp"], **{**SMALL, "batch_size": None})
    engine.fit([config], [tmp_path / "whole"])
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: 7)  # 480 rows: the last chunk is shorter
    engine.fit([config], [tmp_path / "chunks"])
    assert_same_run(tmp_path / "whole", tmp_path / "chunks", rel=1e-9, abs=1e-9)


def test_bfloat16_keeps_weights_in_float32_and_learns(tmp_path):
    knobs = {"data.limit": 3000, "epochs": 3, "batch_size": 100, "model.hidden": [50]}
    outcomes = [
        engine.fit([make_config(**knobs, precision=precision)], [tmp_path / precision])[0].metrics
        for precision in ("float32", "bfloat16")
    ]
    weights = checkpoint.load(tmp_path / "bfloat16" / "last.safetensors")["weights"]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert outcomes[0]["train/loss"] != outcomes[1]["train/loss"]
    assert outcomes[1]["validation/accuracy"] == pytest.approx(outcomes[0]["validation/accuracy"], abs=0.03)


def test_a_run_that_diverges_fails_alone_with_its_epoch(tmp_path, monkeypatch):
    knobs = {**MODELS["mlp"], **SMALL, "precision": "float32"}
    configs = [make_config(**knobs, lr=lr) for lr in (1e-3, 1e30, 1e-2)]
    directories = [tmp_path / str(run) for run in range(3)]
    statuses = []
    original = Stack.train_epoch

    def watching(self, epoch):
        result = directories[1] / "result.json"
        statuses.append(json.loads(result.read_text())["status"] if result.exists() else None)
        return original(self, epoch)

    monkeypatch.setattr(Stack, "train_epoch", watching)
    outcomes = engine.fit(configs, directories)
    monkeypatch.undo()
    assert statuses == ["running", "failed", "failed"]  # at once, while the others go on
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert "epoch" in outcomes[1].error
    assert "lr" in outcomes[1].error
    result = json.loads((directories[1] / "result.json").read_text())
    assert (result["status"], result["error"]) == ("failed", outcomes[1].error)
    for run in (0, 2):
        engine.fit([configs[run]], [tmp_path / f"solo{run}"])
        assert_same_run(directories[run], tmp_path / f"solo{run}", rel=1e-3, abs=1e-3)


def test_early_stopping_stops_after_patience_and_keeps_the_best(tmp_path):
    config = make_config(**{**SMALL, "epochs": 200, "lr": 0.03, "patience": 3, "select": "best", **MODELS["mlp"]})
    (outcome,) = engine.fit([config], [tmp_path])
    rows = rows_of(tmp_path)
    accuracies = [row["validation/accuracy"] for row in rows]
    best = accuracies.index(max(accuracies)) + 1  # the first of equals
    assert len(rows) == best + 3 < 200
    assert outcome.objective == max(accuracies)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["best"] == {"epoch": best, "value": max(accuracies)}
    assert result["epoch"] == best + 3


def test_select_decides_which_weights_are_tested(tmp_path):
    knobs = {**SMALL, "epochs": 12, "lr": 0.05, **MODELS["mlp"]}
    configs = [make_config(**knobs, select=select) for select in ("last", "best")]
    outcomes = engine.fit(configs, [tmp_path / "last", tmp_path / "best"])
    dataset = load(**vars(configs[0].data))
    files = [f"{name}/{name}.safetensors" for name in ("last", "best")]
    for outcome, file, key in ((outcomes[0], files[0], "weights"), (outcomes[1], files[1], "weights")):
        stack = Stack(configs[:1], dataset, torch.device("cpu"))
        stack.load_weights(0, checkpoint.load(tmp_path / file)[key])
        (accuracy,) = stack.measure("test", dataset.test)["test/accuracy"]
        assert accuracy == pytest.approx(outcome.metrics["test/accuracy"])  # which a GPU may have measured
    assert outcomes[0].metrics["test/loss"] != outcomes[1].metrics["test/loss"]


def test_all_rows_may_be_trained_on(tmp_path):
    config = make_config(**{**SMALL, "data.split": 1.0}, **MODELS["mlp"])
    (outcome,) = engine.fit([config], [tmp_path])
    assert not any("validation" in tag for tag in outcome.metrics)
    assert outcome.objective == outcome.metrics["train/accuracy"]


def test_a_last_batch_of_one_row_is_refused_with_batch_norm(tmp_path):
    config = make_config(**{**SMALL, "batch_size": 479}, **MODELS["mlp"], batch_norm=True)
    with pytest.raises(UserError, match="batch_size must not leave a last batch of 1 row"):
        engine.fit([config], [tmp_path])
