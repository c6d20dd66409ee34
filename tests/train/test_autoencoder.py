"""Autoencoders: variational and plain, denoising, one-class; runs, stacks, pictures and uses."""

import itertools
import json
import math

import pytest
import torch
from helpers import SMALL, Crash, assert_same_run, crash_in, events_of, half_long, make_config, rows_of
from training import assert_all_weights_have_moved

from fmnist import UserError
from fmnist.config import schema
from fmnist.config.parse import config_hash
from fmnist.data.dataset import load
from fmnist.evaluate import evaluate
from fmnist.figures import main
from fmnist.nn.losses import RECONSTRUCTION, NegativeELBO, squared
from fmnist.nn.models import VAE, Parts
from fmnist.nn.noise import Noise
from fmnist.record import checkpoint
from fmnist.train import engine
from fmnist.train.stack import Stack
from fmnist.view import metrics
from fmnist.view.metrics import holes

QUICK = {**SMALL, "figures": False}
AUTOENCODER = {"model": "autoencoder", "model.hidden": [20, 6]}
VARIATIONAL = {"model": "vae", "model.hidden": [20], "model.latent": 4}
BOTH = [AUTOENCODER, VARIATIONAL]


def fit(directory, **knobs):
    return engine.fit([make_config(**{**QUICK, **knobs})], [directory])[0].metrics


STACKS = {
    "betas and seeds": [{"model.beta": beta, "seed": seed} for beta in (0.0, 1.0, 4.0) for seed in (0, 1)],
    "noise": [{"noise": 0.25, "order_seed": 3}, {"noise": 0.0, "order_seed": 3, "seed": 1}],
    "mask": [{"mask": 0.5, "seed": 2}, {"mask": 0.1, "lr": 0.01}],
    "dropout": [{"dropout": 0.5}, {"dropout": 0.0, "seed": 1}],
}


@pytest.mark.few(3)
@pytest.mark.parametrize("model", BOTH, ids=["autoencoder", "vae"])
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_its_solos(name, model, tmp_path):
    own = [dict(knobs) for knobs in STACKS[name]]
    for knobs in own:
        if model is AUTOENCODER:
            knobs.pop("model.beta", None)
    configs = [make_config(**{**QUICK, **model, "batch_norm": True, "skip": True, **knobs}) for knobs in own]
    engine.fit(configs, [tmp_path / f"stack{run}" for run in range(len(configs))])
    for run, config in enumerate(configs):
        engine.fit([config], [tmp_path / f"solo{run}"])
        # rounding grows over the steps, with batch norm faster: seen 1.2e-9 with products spread over two threads, and
        # 1.3e-7 on an H200
        assert_same_run(tmp_path / f"stack{run}", tmp_path / f"solo{run}", rel=1e-6, abs=1e-6)


COMPOSITIONS = list(itertools.product((None, 0.5), (None, True), (None, True), (None, 0.25), (None, 0.2)))
# In each half any four switches meet in all ways.
HALVES = [[composition for composition in COMPOSITIONS if (5 - composition.count(None)) % 2 == half] for half in (0, 1)]
LOSSES = [("autoencoder", "mae"), ("autoencoder", "mse"), ("autoencoder", "bce"), ("vae", "bce")]


@pytest.mark.few(2)
@pytest.mark.parametrize(("half", "of_loss", "batch_size"), half_long(HALVES, LOSSES, [40, None]))
def test_every_composition_trains_for_two_steps(half, of_loss, batch_size, tmp_path, device):
    model, loss = of_loss
    sizes = AUTOENCODER if model == "autoencoder" else VARIATIONAL
    for index, (dropout, batch_norm, skip, noise, mask) in enumerate(half):
        config = make_config(**{
            **sizes, "loss": loss, "data.limit": 100, "epochs": 2 if batch_size is None else 1, "figures": False,
            "batch_size": batch_size, "device": str(device), "dropout": dropout, "batch_norm": batch_norm,
            "skip": skip, "noise": noise, "mask": mask,
        })  # fmt: skip
        (outcome,) = engine.fit([config], [tmp_path / str(index)])
        assert outcome.error is None
        assert all(math.isfinite(value) for value in outcome.metrics.values())
        assert_all_weights_have_moved(config, tmp_path / str(index))


@pytest.mark.parametrize("knobs", [{**AUTOENCODER, "noise": 0.2, "mask": 0.2}, VARIATIONAL], ids=["denoising", "vae"])
def test_resume_is_bit_identical(knobs, tmp_path, monkeypatch):
    fit(tmp_path / "straight", **knobs, precision="float32", epochs=5)
    with monkeypatch.context() as patch:
        crash_in(patch, 3)
        with pytest.raises(Crash):
            fit(tmp_path / "stopped", **knobs, precision="float32", epochs=5)
    fit(tmp_path / "stopped", **knobs, precision="float32", epochs=5)
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_the_reports_autoencoder_has_its_parameters():
    config = make_config("autoencoder", **{"data.limit": 100})
    stack = Stack([config], load(**vars(config.data)), torch.device("cpu"))
    assert sum(p.numel() for p in stack.model.parameters()) == 222_384


def test_the_gradient_of_the_elbo_against_finite_differences():
    noise = Noise(1)
    model = VAE(Parts(activation="tanh", noise=noise, factory={"dtype": torch.float64}), 6, 0, [5], 2)
    generator = torch.Generator().manual_seed(0)
    names = [name for name, _ in model.named_parameters()]
    values = [torch.randn(p.shape, generator=generator, dtype=torch.float64) / 2 for p in model.parameters()]
    x = torch.rand(4, 6, generator=generator, dtype=torch.float64)

    def loss(*parameters):
        noise.start([7])  # the same sample each time
        output = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,))
        return NegativeELBO(0.7).metrics(output, x, torch.empty(0))["loss"]

    assert torch.autograd.gradcheck(loss, [value.requires_grad_() for value in values])


@pytest.mark.long
def test_without_the_kl_term_a_vae_reconstructs_as_well_as_an_autoencoder(tmp_path):
    knobs = {"data.limit": 3000, "epochs": 20, "lr": 3e-3, "loss": "bce", "precision": "float32"}
    plain = fit(tmp_path / "ae", **{**knobs, **AUTOENCODER, "model.hidden": [64, 8], "model.code": "identity"})
    sizes = {**VARIATIONAL, "model.hidden": [64], "model.latent": 8}
    free = fit(tmp_path / "free", **{**knobs, **sizes, "model.beta": 0.0})
    full = fit(tmp_path / "full", **{**knobs, **sizes})
    assert free["test/nll"] == pytest.approx(plain["test/loss"], rel=0.02)
    assert free["test/nll"] < full["test/nll"]
    assert full["test/kl"] < free["test/kl"]


def test_the_importance_weighted_bound_is_tighter_and_is_the_elbo_for_one_sample(tmp_path):
    knobs = {**VARIATIONAL, "data.limit": 2000, "epochs": 5, "seed": 1}
    one = fit(tmp_path / "one", **knobs, **{"model.iwae_samples": 1})
    many = fit(tmp_path / "many", **knobs, **{"model.iwae_samples": 50})
    for part, near in (("validation", 3), ("test", 0.5)):  # another sample of z, of 400 and of 10,000 images
        assert one[f"{part}/negative_iwae"] == pytest.approx(one[f"{part}/negative_elbo"], abs=near)
        assert many[f"{part}/negative_iwae"] < many[f"{part}/negative_elbo"] - 0.5


def test_the_ceiling_of_the_reports_accuracy_is_counted_from_the_data(tmp_path):
    metrics = fit(tmp_path, **AUTOENCODER, **{"data.limit": None}, epochs=1, batch_size=6000, precision="float32")
    pixels = load(**vars(make_config().data)).test.images
    counted = ((pixels == 0) | (pixels == 255)).double().mean().item()
    assert metrics["test/accuracy_ceiling"] == pytest.approx(counted, abs=1e-6)
    assert counted == pytest.approx(0.508, abs=0.0005)
    assert metrics["test/accuracy"] <= counted


def test_one_class_is_learnt_and_told_from_the_others(tmp_path):
    knobs = {"data.limit": 6000, "anomaly.normal": 1, "epochs": 20, "lr": 3e-3, "precision": "float32"}
    plain = fit(tmp_path / "plain", **{**knobs, **AUTOENCODER, "loss": "mse"})
    for part in ("validation", "test"):
        assert 0.9 < plain[f"{part}/auroc"] <= 1
        assert 0.9 < plain[f"{part}/auroc_scaled"] <= 1
    both = fit(tmp_path / "vae", **{**knobs, **VARIATIONAL})
    assert both["test/auroc"] > 0.9
    assert both["test/auroc_elbo"] > 0.9
    dataset = load(**vars(make_config(**{"data.limit": 6000}).data), only=[1])
    assert set(dataset.train.labels.tolist()) == set(dataset.validation.labels.tolist()) == {1}
    assert set(dataset.mixed.labels.tolist()) == set(dataset.test.labels.tolist()) == set(range(10))


def test_several_classes_are_normal_in_any_order_and_one_needs_no_list():
    given = (1, [1], [6, 1], [1, 6, 6], 1.0, [1.0], [6.0, 1])
    configs = [make_config("autoencoder", **{"anomaly.normal": normal}) for normal in given]
    assert [config.anomaly.normal for config in configs] == [1, 1, [1, 6], [1, 6], 1, 1, [1, 6]]
    assert len({config_hash(config) for config in configs}) == 2
    dataset = load(**vars(configs[2].data), only=configs[2].anomaly.classes)
    whole = load(**vars(configs[2].data))
    assert set(dataset.train.labels.tolist()) == set(dataset.validation.labels.tolist()) == {1, 6}
    assert len(dataset.train.labels) == int(((whole.train.labels == 1) | (whole.train.labels == 6)).sum())
    assert set(dataset.test.labels.tolist()) == set(range(10))


def test_auroc_is_the_share_of_pairs_in_order():
    scores, positive = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True])
    assert metrics.auroc(scores, positive) == 0.75
    assert math.isnan(metrics.auroc(scores * math.nan, positive))


@pytest.mark.long
def test_a_denoiser_is_measured_on_noisy_input_and_beats_leaving_it_as_it_is(tmp_path):
    metrics = fit(tmp_path, **{**AUTOENCODER, "model.hidden": [64, 32]}, noise=0.25, loss="mse", lr=3e-3, epochs=15,
                  precision="float32", **{"data.limit": 6000})  # fmt: skip
    assert metrics["test/mse"] < 0.0382  # of the noisy images themselves
    again = evaluate(tmp_path)
    assert again["test/mse"] == metrics["test/mse"]  # the noise of the test rows belongs to the run


def test_pictures_are_written_and_shown_and_the_code_is_probed(tmp_path):
    knobs = {**QUICK, "figures": True, "data.limit": 1200}
    plain = {**AUTOENCODER, "model.hidden": [20, 2], "model.code": "identity", "noise": 0.25}
    configs = [make_config(**{**knobs, **plain}),
               make_config(**{**knobs, **VARIATIONAL, "model.latent": 2, "noise": 0.1})]  # fmt: skip
    for name, config in zip("ab", configs, strict=True):
        engine.fit([config], [tmp_path / name])
    expected = {"reconstructions", "interpolation", "denoised", "map", "plane"}
    for name, names in (("a", expected), ("b", expected | {"samples"})):
        assert {file.stem for file in (tmp_path / name / "figures").iterdir()} == names
        assert set(events_of(tmp_path / name).Tags()["images"]) == {f"figures/{picture}" for picture in names}
        assert (tmp_path / name / "validation" / "projector_config.pbtxt").exists()
        assert 0.1 < evaluate(tmp_path / name)["probe/accuracy"] < 1


@pytest.mark.long
def test_latent_spaces_are_compared(tmp_path, monkeypatch, capsys):
    for name, sizes in (("a", {**AUTOENCODER, "model.hidden": [20, 2]}), ("b", {**VARIATIONAL, "model.latent": 2})):
        fit(tmp_path / name, **sizes)
    out = tmp_path / "spaces.png"
    monkeypatch.setattr("sys.argv", ["figures", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)])
    main()
    assert out.read_bytes().startswith(b"\x89PNG")
    assert str(out) in capsys.readouterr().out


def test_holes_are_measured():
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(2000, 2, generator=generator)
    clumps = torch.randn(2000, 2, generator=generator) * 0.05 + torch.tensor([[-1.0, 0], [1, 0]]).repeat(1000, 1)
    assert holes(full) < 0.03
    assert holes(clumps) > 0.5


@pytest.mark.parametrize(("knobs", "message"), [
    ({"model": "vae", "model.latent": 0}, "model.latent must be at least 1, got 0"),
    ({"model": "autoencoder", "model.hidden": []}, "model.hidden must name at least one hidden layer"),
    ({"model": "vae", "model.hidden": []}, "model.hidden must name at least one hidden layer"),
    ({"model": "autoencoder", "noise": -1}, "noise must be at least 0, got -1"),
    ({"model": "autoencoder", "mask": 1}, "mask must be in [0, 1), got 1"),
    ({"model": "mlp", "anomaly.normal": [1, 2]}, "anomaly.normal must be null for model mlp, got 1, 2"),
    ({"model": "autoencoder", "loss": "cross_entropy"}, "loss must be one of mae, mse, bce for model autoencoder"),
    ({"model": "vae", "loss": "mse"}, "loss must be one of bce for model vae"),
    ({"model": "vae", "model.beta": -1}, "model.beta must be at least 0, got -1"),
    ({"model": "autoencoder", "model.code": "softmax"}, "model.code must be one of relu"),
    ({"model": "mlp", "anomaly.normal": 1}, "anomaly.normal must be null for model mlp, got 1"),
])  # fmt: skip
def test_mistakes_are_refused_by_name(knobs, message):
    with pytest.raises(UserError) as caught:
        make_config(**knobs)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("normal", "allowed"), [
    *((wrong, "a whole number of at least 0") for wrong in (-1, 1.5, True, "Coat", [[1]], [1, -1], [None], [1, None])),
    *((wrong, "a class (of Fashion-MNIST 0 to 9) or a list that leaves one out")
      for wrong in ([], 12, [1, 12], [*range(10)])),
])  # fmt: skip
def test_what_is_no_class_is_refused(normal, allowed):
    with pytest.raises(UserError) as caught:
        make_config("vae", **{"anomaly.normal": normal})
    assert str(caught.value) == f"anomaly.normal must be {allowed}, got {normal!r}"


def test_a_class_that_an_idx_data_set_does_not_have_is_refused(tmp_path):
    from helpers import tiny

    tiny(tmp_path)
    config = make_config("autoencoder", "idx", **{"data.dir": str(tmp_path), "anomaly.normal": 7})
    with pytest.raises(UserError, match=r"anomaly\.normal must be a class, 0 to 3, got 7"):
        engine.fit([config], [tmp_path / "run"])


def test_a_loss_of_images_can_be_added(tmp_path, monkeypatch):
    monkeypatch.setitem(RECONSTRUCTION, "half", lambda logits, x: squared(logits, x) / 2)
    schema.IMAGE_LOSSES.append("half")
    try:
        found = fit(tmp_path, **AUTOENCODER, loss="half")
    finally:
        schema.IMAGE_LOSSES.remove("half")
    assert found["test/loss"] == pytest.approx(784 * found["test/mse"] / 2)


def test_curves_have_their_terms(tmp_path):
    fit(tmp_path / "vae", **VARIATIONAL, **{"model.beta": 2.0})
    row = rows_of(tmp_path / "vae")[-1]
    assert row["train/loss"] == pytest.approx(row["train/nll"] + 2 * row["train/kl"])
    assert row["validation/negative_elbo"] == pytest.approx(row["validation/nll"] + row["validation/kl"])
    fit(tmp_path / "ae", **AUTOENCODER, loss="mae")
    row = rows_of(tmp_path / "ae")[-1]
    assert row["train/loss"] == pytest.approx(784 * row["train/mae"])
    assert json.loads((tmp_path / "ae" / "result.json").read_text())["objective"] == row["validation/loss"]
    assert checkpoint.load(tmp_path / "ae" / "best.safetensors")["value"] == min(
        r["validation/loss"] for r in rows_of(tmp_path / "ae")
    )
