"""The importance-weighted bound: against integrals over all latent numbers, in pieces, in stacks, interrupted."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from helpers import make_config
from torch.distributions import Normal

from fmnist.nn.losses import bernoulli
from fmnist.nn.models import Parts, build
from fmnist.nn.noise import Noise
from fmnist.nn.step import means, outputs
from fmnist.program.progress import lines
from fmnist.train.restore import assemble
from fmnist.view import bounds

STANDARD = {"model": "vae", "model.hidden": [5], "model.latent": 1}
MODELS = {
    "standard": STANDARD,
    "vamp": {**STANDARD, "model": "vamp", "model.pseudo_inputs": 3},
    "two levels": {**STANDARD, "model": "two_levels"},
    "two levels, vamp": {**STANDARD, "model": "two_levels", "model.prior": "vamp", "model.pseudo_inputs": 3},
}
PIXELS, POINTS = 6, 201


def tiny(name, runs=2):
    """A model of images of six pixels with random weights, and four images. Its q(z|x) is wide, so that few samples
    meet all of p(z|x)."""
    config = make_config(**MODELS[name], gate="sigmoid", **{"model.activation": "identity"})
    model = build(config.model, Parts.of([config] * runs, Noise(runs), dtype=torch.float64), PIXELS, 10)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            value.copy_(drawn.abs() if "images" in name else drawn / (1 if name.startswith(("dec", "px")) else 4))
    return model.eval(), (torch.rand(4, PIXELS, generator=generator) < 0.5).double()


def deviation(log_variance):
    return (log_variance / 2).exp()


def prior_density(model, network, z, run):
    """p(z) of one latent number by the textbook: N(0, 1), or the mean of q(z|u) over the pseudo-inputs."""
    if getattr(model, "pseudo_inputs", None) is None:
        return Normal(0.0, 1.0).log_prob(z).exp()
    mean, log_variance = network(model.pseudo_inputs.images.clamp(0, 1)).chunk(2, -1)
    parts = [Normal(m, deviation(v)).log_prob(z).exp() for m, v in zip(mean[run], log_variance[run], strict=True)]
    return torch.stack(parts).mean(0)


@torch.no_grad()
def integrated(model, x):
    """log p(x) of each run and image, by a sum over a fine grid of latent numbers, with densities of
    torch.distributions."""
    grid = torch.linspace(-10, 10, POINTS, dtype=torch.float64)
    width, found = float(grid[1] - grid[0]), []
    for run in range(2):
        if model.width == 1:
            codes, density = grid[:, None], prior_density(model, model.encoder, grid, run) * width
        else:
            codes = torch.cartesian_prod(grid, grid)
            z2, z1 = codes.unbind(-1)
            mean, log_variance = model.p1(z2[:, None])[run].unbind(-1)
            density = prior_density(model, model.q2, z2, run) * Normal(mean, deviation(log_variance)).log_prob(z1).exp()
            density = density * width**2
        assert density.sum() == pytest.approx(1, abs=2e-3)
        logits = model.decode(codes)[run]
        likelihood = torch.stack([(-bernoulli(logits, image)).exp() for image in x], -1)
        found.append((density[:, None] * likelihood).sum(0).log())
    return torch.stack(found)


@pytest.mark.parametrize("name", MODELS)
def test_it_approaches_the_integral_over_all_latent_numbers_from_below(name):
    model, x = tiny(name)
    exact = integrated(model, x)
    few = []
    for seed in range(30):
        model.noise.start([seed, seed + 1000])
        few.append(bounds.log_likelihood(model, x, 5, rows=8))
    mean, error = torch.stack(few).mean(0), torch.stack(few).std(0) / 30**0.5
    assert (mean < exact + 4 * error).all()
    model.noise.start([0, 1])
    many = bounds.log_likelihood(model, x, 10_000, rows=4000)
    torch.testing.assert_close(many, exact, rtol=0, atol=0.05)
    assert (many > mean - 4 * error).all()
    assert (many - mean).mean() > 0.01


def stack_of(name, seeds=(0, 1), **knobs):
    knobs = {"data.limit": 60, "data.binarise": True, "precision": "float64", **MODELS[name], **knobs}
    return assemble([make_config(**knobs, seed=seed) for seed in seeds])


def silent(total):
    return lines(total, "sample", print)


@pytest.mark.parametrize("name", MODELS)
def test_pieces_give_what_the_whole_gives_and_a_stack_what_its_solos_give(name, monkeypatch):
    monkeypatch.setattr(bounds, "BLOCK", 25)
    stack = stack_of(name)
    x, shown = stack.input(stack.dataset.test), []
    decode = stack.model.decode
    monkeypatch.setattr(stack.model, "decode", lambda z: shown.append(z.shape[-2]) or decode(z))
    found = {rows: bounds.negative_iwae(stack, x, 7, silent, rows) for rows in (1, 25, 60, 10_000)}
    assert max(shown) == 7 * 25
    for values in found.values():
        assert values == pytest.approx(found[1], rel=1e-12)
    shown.clear()
    bounds.negative_iwae(stack, x, 7, silent, rows=50)
    assert max(shown) == 50
    for run, seed in enumerate((0, 1)):
        solo = stack_of(name, [seed])
        assert bounds.negative_iwae(solo, x, 7, silent)[0] == pytest.approx(found[1][run], rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_below_the_negative_elbo_and_equal_to_it_for_one_sample_on_average(name):
    stack, x = stack_of(name), None
    x = stack.input(stack.dataset.test)
    bound = []
    for part in range(20):
        stack.start_noise(part)
        output = means(stack.model, stack.criterion, x, stack.dataset.test.labels, "float64")
        bound.append(output["negative_elbo"])
    elbo, error = torch.stack(bound).mean(0), torch.stack(bound).std(0) / 20**0.5
    one, many = (torch.tensor(bounds.negative_iwae(stack, x, samples, silent)) for samples in (1, 50))
    assert (many < elbo - 1).all()
    assert ((one - elbo).abs() < 5 * error * 20**0.5 + 1).all()


def test_an_output_estimates_its_divergence():
    """At the same noise: log q(z|x) - log p(z) of torch.distributions."""
    model, x = tiny("two levels, vamp")
    model.noise.start([3, 4])
    ((output, _, _),) = outputs(model, SimpleNamespace(couples_rows=False), x, torch.zeros(4), "float64")
    model.noise.start([3, 4])
    normal = model.normal(model.posterior(x))
    mean2, log_variance2 = model.q2(x).chunk(2, -1)
    z2 = mean2 + deviation(log_variance2) * normal[..., :1]
    mean1, log_variance1 = model.q1(x, z2).chunk(2, -1)
    z1 = mean1 + deviation(log_variance1) * normal[..., 1:]
    mean, log_variance = model.p1(z2).chunk(2, -1)
    log_q = Normal(mean2, deviation(log_variance2)).log_prob(z2) + Normal(mean1, deviation(log_variance1)).log_prob(z1)
    log_prior = torch.stack([prior_density(model, model.q2, z2[run], run) for run in range(2)]).log()
    log_p = log_prior + Normal(mean, deviation(log_variance)).log_prob(z1)
    torch.testing.assert_close(output.divergence(), (log_q - log_p).squeeze(-1))
    torch.testing.assert_close(output.logits, model.px(z1, z2))


def test_a_measurement_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    for name, value in (("BLOCK", 20), ("MANY", 4)):
        monkeypatch.setattr(bounds, name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stack, done = stack_of("vamp"), []
    x = stack.input(stack.dataset.test)

    @contextmanager
    def bar(total):
        assert total == 3 * 6
        yield SimpleNamespace(update=lambda gained: done.append(gained) or (interrupted and sum(done) > 12 and stop()))

    def stop():
        raise KeyboardInterrupt

    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        bounds.negative_iwae(stack, x, 6, bar, rows=20)
    assert done == [1] * 13
    interrupted = False
    done.clear()
    found = bounds.negative_iwae(stack, x, 6, bar, rows=20)
    assert done == [6, 6, *[1] * 6]
    kept = json.loads((tmp_path / "fmnist" / "bounds.json").read_text())
    assert len(kept) == 3
    (tmp_path / "fmnist" / "bounds.json").write_text('{"a": [1]')  # a damaged one counts for nothing
    assert bounds.negative_iwae(stack, x, 6, bar, rows=20) == found
    done.clear()
    stack.load_weights(0, {name: value + 0.1 for name, value in stack.weights(0).items()})
    assert bounds.negative_iwae(stack, x, 6, bar, rows=20) != found
    assert done == [1] * 18
