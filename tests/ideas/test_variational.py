"""The VampPrior and two levels of latent numbers: as runs, stacks, on the tape, and for all that reads a VAE."""

import pytest
import torch
from helpers import SMALL, events_of, make_config, rows_of
from speed.twins import assert_same_steps
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from training import (  # noqa: F401 - two serve each test
    assert_all_weights_have_moved,
    assert_stacked_and_resumed_alike,
    data_kept,
    quick_disk,
)

from fmnist import load
from fmnist.data import dataset
from fmnist.evaluate import evaluate
from fmnist.ideas.vamp import JITTER, Sampled, log_mixture, log_normal, mixed
from fmnist.nn.losses import NegativeELBO
from fmnist.program.progress import progress
from fmnist.train import engine
from fmnist.train.restore import assemble
from fmnist.view.bounds import negative_iwae

SIZES = {"model.hidden": [20, 12], "model.latent": 3, "model.pseudo_inputs": 7, "data.binarise": True}
MODELS = {
    "vamp": {**SIZES, "model": "vamp"},
    "two levels": {**SIZES, "model": "two_levels"},
    "two levels, vamp": {**SIZES, "model": "two_levels", "model.prior": "vamp"},
    "vamp, three samples": {**SIZES, "model": "vamp", "model.train_samples": 3},
    "two levels, two samples": {**SIZES, "model": "two_levels", "model.prior": "vamp", "model.train_samples": 2},
}
SWITCHES = [
    {"gate": "sigmoid", "model.activation": "identity", "grad_clip": 1.0, "anneal.beta": [0, 1]},
    {"dropout": 0.3, "skip": True, "noise": 0.1, "batch_size": None},
    {"norm": "batch", "model.beta": 2.0, "optim": "adamw", "optim.weight_decay": 0.1},
]
CALM = {"precision": "float64", "init_scale": 0.3}  # untrained, it is near enough to images for few samples
GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def images():
    return dataset.load(**vars(make_config(**{"data.limit": 200, "data.binarise": True}).data))


def test_log_densities_are_those_of_torch_distributions():
    z, mean, log_variance = (torch.randn(2, n, 5, generator=GENERATOR, dtype=torch.float64) * 3 for n in (6, 4, 4))
    normals = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    constant = 5 * torch.tensor(2 * torch.pi).log() / 2  # is left out in both
    for run in range(2):
        mixture = MixtureSameFamily(Categorical(torch.ones(4)), Independent(Normal(
            mean[run], (log_variance[run] / 2).exp()), 1))  # fmt: skip
        found = log_mixture(z, mean, log_variance)[run] - constant
        torch.testing.assert_close(found, mixture.log_prob(z[run]), check_dtype=False)
    own = log_normal(z[:, :4], mean, log_variance) - constant
    torch.testing.assert_close(own, normals.log_prob(z[:, :4]), check_dtype=False)


def test_a_mixture_in_single_precision_is_that_in_double():
    z, mean = (torch.randn(1, n, 40, generator=GENERATOR, dtype=torch.float64) * 2 for n in (50, 500))
    log_variance = -3 - torch.rand(1, 500, 40, generator=GENERATOR, dtype=torch.float64)
    z[:, :25] = mean[:, :25] + 0.1
    exact = log_mixture(z, mean, log_variance)
    torch.testing.assert_close(log_mixture(z.float(), mean.float(), log_variance.float()).double(), exact, rtol=1e-5,
                               atol=2e-3)  # fmt: skip


def test_samples_of_a_mixture_have_its_moments():
    mean, log_variance = torch.tensor([[[0.0, 5.0], [2.0, -5.0]]]), torch.tensor([[[0.0, -2.0], [1.0, 0.0]]])
    normal = torch.randn(20_000, 2, generator=GENERATOR)
    (found,) = mixed((mean, log_variance), normal, GENERATOR)
    torch.testing.assert_close(found.mean(0), mean[0].mean(0), rtol=0, atol=0.15)
    variance = log_variance[0].exp().mean(0) + mean[0].var(0, correction=0)
    torch.testing.assert_close(found.var(0), variance, rtol=0.03, atol=0)


def test_pseudo_inputs_begin_as_grey_training_images_and_stay_in_range(images):
    configs = [make_config(**{**MODELS["vamp"], "data.limit": 200, "seed": seed}) for seed in (0, 1)]
    learnt = assemble(configs, data=images).model.pseudo_inputs
    grey = images.grey.train.images.float() / 255
    for run in range(2):
        distances = torch.cdist(learnt.images[run].detach(), grey).min(-1).values
        assert distances.max() < 2 * JITTER * 784**0.5
    assert not torch.equal(*learnt.images)
    assert (learnt.images.min(), learnt.images.max()) < (0, 1.1)
    assert learnt().min() == 0
    assert learnt().max() == 1
    solo = assemble(configs[1:], data=images).model.pseudo_inputs
    assert torch.equal(solo.images[0], learnt.images[1])


@pytest.mark.parametrize("name", MODELS)
def test_the_bound_that_is_trained_is_the_mean_of_the_weights_of_its_samples(name, images):
    stack = assemble([make_config(**{**MODELS[name], "model.beta": beta, **CALM})
                      for beta in (0.5, 1)], data=images)  # fmt: skip
    samples, x = stack.common.model.train_samples, images.train.images[:20].double() / 255
    labels = images.train.labels[:20]
    stack.start_noise(1)
    output = stack.model.train()(x)
    trained = stack.criterion.metrics(output, x, labels, training=True)
    of_each = [Sampled(*parts) for parts in zip(output.logits.split(20, 1), output.log_ratio.split(20, 1), strict=True)]
    assert len(of_each) == samples
    elbos = [NegativeELBO(torch.tensor([0.5, 1.0])).metrics(sample, x, labels) for sample in of_each]
    weights = torch.stack([(500 - elbo["loss"]).exp() for elbo in elbos])
    torch.testing.assert_close(trained["loss"], 500 - weights.mean(0).log())
    for tag in ("nll", "kl", "negative_elbo"):
        torch.testing.assert_close(trained[tag], torch.stack([elbo[tag] for elbo in elbos]).mean(0))
    stack.start_noise(1)
    assert stack.criterion.metrics(stack.model.eval()(x), x, labels)["loss"].shape == (2, 20)


@pytest.mark.parametrize("name", ["vamp, three samples", "two levels, two samples"])
def test_the_bound_that_is_trained_is_the_one_that_is_tested(name, images):
    stack = assemble([make_config(**{**MODELS[name], **CALM})], data=images)
    x, samples = images.train.images.double() / 255, stack.common.model.train_samples
    tested = negative_iwae(stack, x, samples, progress)[0]
    found = stack.criterion.metrics(stack.model.train()(x), x, images.train.labels, training=True)
    assert found["loss"].mean().item() == pytest.approx(tested, rel=1e-3)
    assert tested < found["negative_elbo"].mean().item()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_the_tape_steps_as_autograd_does(name, switches, images):
    knobs = {**MODELS[name], "precision": "float64", "batch_size": 64, **switches}
    assert_same_steps([make_config(**knobs, seed=seed) for seed in range(2)], images)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", MODELS)
def test_a_stack_is_its_solos_and_a_run_resumes(name, tmp_path, monkeypatch):
    knobs = {**SMALL, **MODELS[name], "model.iwae_samples": 3, "anneal.beta": [0, 1], "epochs": 2}
    configs = [make_config(**knobs, seed=seed) for seed in (0, 1)]
    assert_stacked_and_resumed_alike(configs, tmp_path, monkeypatch, 2)
    assert_all_weights_have_moved(configs[1], tmp_path / "solo")
    last = rows_of(tmp_path / "solo")[-1]
    assert last["validation/negative_elbo"] == pytest.approx(last["validation/nll"] + last["validation/kl"])


@pytest.mark.parametrize("name", ["vamp", "two levels, vamp"])
def test_what_reads_a_vae_reads_it(name, tmp_path):
    drawn = name != "vamp"
    knobs = {**SMALL, **MODELS[name], "figures": drawn, "histograms": True, "watch": "gradients", "anomaly.normal": 1,
             "data.limit": 600, "epochs": 1, "noise": 0.1}  # fmt: skip
    (outcome,) = engine.fit([make_config(**knobs)], [tmp_path])
    assert 0 <= outcome.metrics["test/auroc_elbo"] <= 1
    if drawn:
        pictures = {file.stem for file in (tmp_path / "figures").iterdir()}
        assert pictures == {"reconstructions", "interpolation", "denoised", "samples"}
        assert events_of(tmp_path).Tags()["images"]
    found = evaluate(tmp_path)
    assert found["test/negative_elbo"] == outcome.metrics["test/negative_elbo"]
    model = load(tmp_path)
    width = 3 if name == "vamp" else 6
    shown = torch.rand(5, 28, 28, generator=GENERATOR).numpy()
    assert model.codes(shown).shape == (5, width)
    assert model.reconstruct(shown).shape == (5, 28, 28)
    assert model.scores(shown).shape == (5,)
    first, again, other = (model.sample(40, seed) for seed in (1, 1, 2))
    assert first.shape == (40, 28, 28)
    assert (first == again).all()
    assert (first != other).any()
