"""`load`: a run as a model, against evaluation; without its data; from older records."""

import copy
import json
import pickle
import sys

import numpy as np
import pytest
import torch
from helpers import make_config, refuses, tiny
from training import KINDS, data_kept, quick_disk  # noqa: F401 - two are fixtures that serve each test

import fmnist
from fmnist import load
from fmnist.data.dataset import Split
from fmnist.launch import machine
from fmnist.nn.step import outputs
from fmnist.record.result import read_result, read_rows
from fmnist.sources import fetch
from fmnist.train import engine
from fmnist.train.restore import restore
from fmnist.view.measure import codes
from fmnist.view.metrics import auroc

SMALL = {"data.limit": 400, "epochs": 2, "batch_size": 50, "figures": False}
CLASSIFIERS = {
    "linear": KINDS["linear"],
    "mlp": KINDS["mlp"] | {"dropout": 0.5, "batch_norm": True},
    "deep": KINDS["deep"] | {"skip": True, "ema": 0.9, "select": "average"},
    "rows": KINDS["mlp"] | {"loss": "report_rows", "precision": "float64"},
    "full batch": KINDS["mlp"] | {"batch_size": None, "select": "best"},
    "bfloat16": KINDS["mlp"] | {"precision": "bfloat16"},
}
OTHERS = {name: knobs for name, knobs in KINDS.items() if "model" in knobs and knobs["model"] in ("autoencoder", "vae")}
OTHERS["denoising"] = {"model": "autoencoder", "model.hidden": [20, 6], "noise": 0.3, "mask": 0.2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a run of each kind, trained when it is first asked for."""
    place, made = tmp_path_factory.mktemp("runs"), {}

    def of(name):
        if name not in made:
            engine.fit([make_config(**SMALL | (CLASSIFIERS | OTHERS)[name])], [place / name])
            made[name] = place / name
        return made[name]

    return of


def remove_data(monkeypatch):
    """Let there be no data set on this machine."""

    def refuse(*_):
        raise AssertionError("data were asked for")

    monkeypatch.setattr(fetch, "files", refuse)
    monkeypatch.setattr(fetch, "fashion", refuse)


def images_of(stack):
    """All test images, 28 to a side."""
    return stack.dataset.test.images.cpu().view(-1, 28, 28)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_and_probabilities_are_those_of_evaluation(name, trained):
    directory = trained(name)
    stack = restore(directory)
    test = stack.dataset.test
    found = [output[0] for output, _, _ in outputs(stack.model, stack.criterion, stack.input(test), test.labels,
                                                   stack.common.precision)]  # fmt: skip
    expected = torch.cat([stack.criterion.predict(output) for output in found]).numpy()
    model = load(str(directory))
    images = images_of(stack)
    assert np.array_equal(model.predict(images), expected)
    assert (expected == test.labels.numpy()).mean() == pytest.approx(model.metrics["test/accuracy"])
    shares = model.probabilities(images)
    assert shares.shape == (400, 10)
    assert shares.sum(1) == pytest.approx(np.ones(400), abs=1e-5)
    assert np.array_equal(shares.argmax(1), expected) or name == "bfloat16"  # which rounds to ties
    assert np.array_equal(model.predict(images), model.predict(images))  # dropout is off
    assert model.names == fetch.NAMES


def test_images_may_have_any_form_that_people_give_them(trained):
    model = load(trained("mlp"))
    images = images_of(restore(trained("mlp")))[:20]
    expected = model.predict(images).tolist()
    flat = images.flatten(1)
    for form in (images.numpy(), flat, flat.numpy(), images[:, None], images.numpy() / 255, images.float() / 255,
                 (images.numpy() / 255).astype(">f4"), (images / 255).numpy().tolist()):  # fmt: skip
        assert model.predict(form).tolist() == expected
    assert model.predict(images[3]).tolist() == expected[3:4]  # one image
    assert model.predict(images[:0]).shape == (0,)
    assert model.probabilities(images[:0]).shape == (0, 10)


@pytest.mark.parametrize(("images", "words"), [
    (np.zeros((2, 27, 28), np.uint8), ["shape (n, 28, 28), (n, 1, 28, 28), (n, 784) or (28, 28)", "(2, 27, 28)"]),
    (np.zeros((2, 28, 28), np.int64), ["must be uint8 in 0..255 or floats in [0, 1], got int64"]),
    (np.full((1, 784), 200.0), ["must be in [0, 1], got 200 to 200; divide them by 255"]),
    (np.full((1, 784), np.nan), ["must be in [0, 1], got nan"]),
    (torch.full((1, 784), -0.5), ["got -0.5 to -0.5"]),
    (["shirt.png"], ["must be an array of numbers"]),
    (None, ["must be an array of numbers"]),
    (np.zeros(784, np.uint8), ["got (784,)"]),
])  # fmt: skip
def test_what_is_no_image_of_this_size_is_one_line(images, words, trained):
    model = load(trained("linear"))
    refuses(lambda: model.predict(images), *words)


@pytest.mark.parametrize("name", [*CLASSIFIERS, *OTHERS])
def test_no_data_are_needed_and_a_pickled_model_is_the_same(name, trained, monkeypatch):
    directory = trained(name)
    remove_data(monkeypatch)
    model = load(directory)
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    ask = model.predict if model.classifies else model.scores
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        again = other.predict if model.classifies else other.scores
        assert np.array_equal(ask(images), again(images))
        assert (other.names, other.metrics, other.history) == (model.names, model.metrics, model.history)


@pytest.mark.parametrize("name", OTHERS)
def test_an_autoencoder_gives_codes_images_and_scores(name, trained):
    directory = trained(name)
    stack, model = restore(directory), load(directory)
    images = images_of(stack)
    found = model.codes(images)
    if name != "denoising":  # evaluation adds noise to its images; the library takes them as they are
        assert np.array_equal(found, codes(stack, stack.dataset.test)[0].numpy())
    rebuilt = model.reconstruct(images)
    assert rebuilt.shape == (400, 28, 28)
    assert np.array_equal(rebuilt, model.decode(found))
    assert np.array_equal(rebuilt, model.reconstruct(images))
    assert 0 <= rebuilt.min() <= rebuilt.max() <= 1
    scores = torch.from_numpy(model.scores(images))
    if "test/auroc" in model.metrics:
        assert auroc(scores, stack.dataset.test.labels != 1) == pytest.approx(model.metrics["test/auroc"])
    refuses(lambda: model.predict(images), "is an autoencoder and knows no classes")


def test_new_images_are_drawn_from_the_prior_or_like_others(trained):
    vae, plain = load(trained("vae")), load(trained("code"))
    for model, like in ((vae, None), (plain, images_of(restore(trained("code")))[:50])):
        one, same, other = (model.sample(5, seed, like=like) for seed in (0, 0, 1))
        assert one.shape == (5, 28, 28)
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)
    refuses(lambda: plain.sample(5), "has no prior to sample from", "like=IMAGES")
    refuses(lambda: plain.sample(5, like=np.zeros((1, 28, 28))), "must be two images or more")
    classifier = load(trained("mlp"))
    for ask in (classifier.codes, classifier.scores, classifier.reconstruct, classifier.sample):
        refuses(lambda ask=ask: ask(3), "is no autoencoder: its model, mlp,")


def test_curves_and_metrics_come_along(trained):
    model = load(trained("mlp"))
    assert model.history == read_rows(trained("mlp"))
    assert model.metrics == read_result(trained("mlp"))["metrics"]
    assert model.config.dropout == 0.5
    assert repr(model) == f"<mlp of {trained('mlp')}: {shown(model.metrics)}>"


def shown(metrics):
    return ", ".join(f"{tag} {metrics[tag]:.4f}" for tag in ("test/loss", "test/accuracy"))


@pytest.fixture
def odd(tmp_path):
    """A run on images of 3x2 pixels in four classes with names."""
    (tmp_path / "data").mkdir()
    images = tiny(tmp_path / "data")["t10k-images-idx3-ubyte"]
    (tmp_path / "data" / "classes.txt").write_text("ant\nbee\ncat\ndog\n", encoding="utf-8")
    knobs = {"data": "idx", "data.dir": str(tmp_path / "data"), "data.split_by": "stratified", "epochs": 1}
    engine.fit([make_config(**knobs, **KINDS["mlp"])], [tmp_path / "run"])
    return tmp_path / "run", images.to(torch.uint8)


def change(directory, **values):
    """Other values in a run's record; None removes one."""
    result = json.loads((directory / "result.json").read_text(encoding="utf-8")) | values
    kept = {name: value for name, value in result.items() if value is not None}
    (directory / "result.json").write_text(json.dumps(kept), encoding="utf-8")


def test_the_record_has_what_a_model_must_know_of_its_images_and_older_ones_let_the_weights_tell(odd):
    directory, images = odd
    stack, model = restore(directory), load(directory)
    assert read_result(directory)["images"] == {"height": 3, "width": 2, "names": ["ant", "bee", "cat", "dog"]}
    assert (model.height, model.width, model.names) == (3, 2, ("ant", "bee", "cat", "dog"))
    expected = stack.criterion.predict(stack.model(stack.input(Split(images.flatten(1), stack.dataset.test.labels))))
    assert model.predict(images).tolist() == expected[0].tolist()
    change(directory, images=None)
    older = load(directory)
    assert (older.height, older.width, older.names) == (1, 6, ("0", "1", "2", "3"))
    assert older.predict(images.flatten(1)).tolist() == expected[0].tolist()


def test_an_older_run_on_fashion_mnist_has_its_size_and_names(trained, tmp_path):
    for name in ("deep", "vae"):
        directory = tmp_path / name
        directory.mkdir()
        for file in trained(name).glob("*.*"):
            (directory / file.name).write_bytes(file.read_bytes())
        change(directory, images=None, data=None, kernels=None)
        model = load(directory)
        assert (model.height, model.width, model.names) == (28, 28, fetch.NAMES)


def test_mistakes_are_one_line(trained, tmp_path):
    refuses(lambda: load(tmp_path), "no run found in", str(tmp_path))
    refuses(lambda: load(trained("mlp"), "first"), "weights must be last, best, average or snapshot-N, got 'first'")
    refuses(lambda: load(trained("mlp"), "average"), "it was trained with ema=null")


def test_the_package_offers_its_library_and_says_how_threads_wait_before_they_are_started(monkeypatch):
    assert {"load", "fit", "Estimator", "UserError"} <= {*dir(fmnist)}
    assert not hasattr(fmnist, "lode")
    said = []
    monkeypatch.setattr(machine, "set_threads", lambda: said.append("threads"))
    monkeypatch.setattr("importlib.import_module", lambda name: said.append(name) or sys.modules[name])
    monkeypatch.delitem(vars(fmnist), "load", raising=False)
    assert fmnist.load is load
    assert said == ["fmnist.launch.machine", "threads", "fmnist.library.model"]
