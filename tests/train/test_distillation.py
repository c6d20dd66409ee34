"""Distillation: a classifier learns from the probabilities of an ensemble, in training alone."""

from dataclasses import replace

import pytest
import torch
from helpers import MODELS, SMALL, Crash, assert_same_run, crash_in, make_config, refuses, said
from speed.conftest import dataset  # noqa: F401 - a fixture
from speed.twins import CLASSIFIERS, assert_same_steps
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist import load
from fmnist.config.parse import config_hash
from fmnist.data.dataset import load as load_data
from fmnist.ensemble import ensemble, main
from fmnist.evaluate import evaluate
from fmnist.nn.losses import Classification
from fmnist.record import checkpoint
from fmnist.record.result import read_result
from fmnist.sources.teacher import Teacher, read
from fmnist.train import engine
from fmnist.train.restore import assemble

KNOBS = {**SMALL, **MODELS["mlp"]}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The directories of two members, which train on the first 480 rows, and their teacher's file."""
    place = tmp_path_factory.mktemp("taught")
    members = [place / "0", place / "1"]
    engine.fit([make_config(**KNOBS | {"precision": "float32"}, seed=seed) for seed in (0, 1)], members)
    ensemble(members, taught=place / "teacher.safetensors")
    return members, place / "teacher.safetensors"


def kl(q, p):
    """KL(q || p) of rows, by its definition."""
    return torch.stack([sum(a * (a.log() - b.log()) for a, b in zip(*rows, strict=True) if a > 0)
                        for rows in zip(q, p, strict=True)])  # fmt: skip


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_loss_is_a_mixture_of_labels_and_teacher(temperature, smoothing, mixed):
    draw = torch.Generator().manual_seed(0)
    logits, said_by_teacher = (torch.randn(n, 6, 5, generator=draw, dtype=torch.float64) for n in (2, 1))
    labels, other = torch.randint(5, (6,), generator=draw), torch.randint(5, (6,), generator=draw)
    share = torch.rand(6, generator=draw, dtype=torch.float64) / 2 + 0.5
    soft = (said_by_teacher[0] / temperature).softmax(-1)
    soft[0] = torch.eye(5, dtype=torch.float64)[0]  # a teacher that is sure
    weights = torch.tensor([[0.3], [1.0]], dtype=torch.float64)
    criterion = Classification(
        "cross_entropy", torch.full((2,), smoothing, dtype=torch.float64), (weights, temperature)
    )
    given = {"mix": (other, share)} if mixed else {}
    loss = criterion.metrics(logits, logits, labels, training=True, soft=soft, **given)["loss"]
    for run in range(2):
        hot = torch.nn.functional.one_hot
        target = share[:, None] * hot(labels, 5) + (1 - share[:, None]) * hot(other, 5) if mixed else hot(labels, 5)
        target = (1 - smoothing) * target + smoothing / 5
        by_labels = -(target * logits[run].log_softmax(-1)).sum(-1)
        by_teacher = temperature**2 * kl(soft, (logits[run] / temperature).softmax(-1))
        expected = (1 - weights[run]) * by_labels + weights[run] * by_teacher
        torch.testing.assert_close(loss[run], expected)
    measured = criterion.metrics(logits, logits, labels)["loss"]
    torch.testing.assert_close(measured[0], torch.nn.functional.cross_entropy(logits[0], labels, reduction="none"))


@pytest.mark.parametrize("knobs", [
    {}, {"teacher_temperature": 3.0}, {"label_smoothing": 0.1, "augment.mixup": 0.5, "teacher_temperature": 2.0},
    {"batch_size": None}, {"batch_size": None, "augment.mixup": 0.5, "augment.flip": 0.5}, {"grad_clip": 0.1},
    {"dropout": 0.3, "batch_norm": True, "augment.shift": 1},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("order", ["one order", "own orders"])
def test_the_tape_steps_as_autograd_does(knobs, order, dataset, device):  # noqa: F811
    draw = torch.Generator().manual_seed(0)
    soft = torch.randn(len(dataset.train.labels), 10, generator=draw, dtype=torch.float64).softmax(-1)
    for precision, close in {"float64": {}, "float32": {"rtol": 2e-4, "atol": 5e-6, "epochs": 1}}.items():
        shared = {**CLASSIFIERS[0], "batch_size": 64, "precision": precision, "teacher": "given", **knobs}
        own = [{"teacher_weight": weight, "seed": seed, "order_seed": seed * (order == "own orders")}
               for seed, weight in enumerate((0.7, 0.2))]  # fmt: skip
        split = replace(dataset.train, soft=soft.to(device, getattr(torch, precision)))
        assert_same_steps(
            [make_config(**shared | each) for each in own], replace(dataset, train=split), device, **close
        )


def test_the_file_has_the_mean_of_the_members_for_all_rows_of_the_training_file(taught):
    members, file = taught
    teacher = read(file)
    whole = load_data(name="fashion", dir=None, split=1.0, split_by="tail", split_seed=0, limit=None)
    assert teacher.probabilities.shape == (60_000, 10)
    mean = sum(load(member).probabilities(whole.train.images[-500:]) for member in members) / 2
    torch.testing.assert_close(teacher.probabilities[-500:], torch.tensor(mean))
    assert teacher.trained.nonzero().flatten().tolist() == [*range(480)]
    assert (teacher.data, teacher.about["views"]) == (whole.digest, None)
    cooler = (teacher.probabilities[:9].double() ** (1 / 3)).float()
    torch.testing.assert_close(teacher.softened(torch.arange(9), 3.0).float(), cooler / cooler.sum(-1, keepdim=True))


@pytest.mark.parametrize("split", [{"data.split": 1.0}, {"data.split_by": "stratified", "data.limit": 700},
                                   {"data.limit": None}], ids=str)  # fmt: skip
def test_rows_are_matched_by_their_place_in_the_training_file(split, taught, tmp_path):
    teacher = read(taught[1])
    blind = replace(teacher, path=tmp_path / "blind", trained=torch.zeros(60_000, dtype=torch.bool))
    blind.write()
    train = assemble([make_config(**KNOBS | split, teacher=str(tmp_path / "blind"))]).dataset.train
    whole = load_data(name="fashion", dir=None, split=1.0, split_by="tail", split_seed=0, limit=None).train
    places = train.places.cpu()
    assert torch.equal(whole.images[places], train.images.cpu())
    torch.testing.assert_close(train.soft.float().cpu(), teacher.probabilities[places])


def test_a_run_learns_from_its_teacher_alone_and_with_others_and_goes_on(taught, tmp_path, monkeypatch):
    file = tmp_path / "teacher.safetensors"
    file.write_bytes(taught[1].read_bytes())
    knobs = {**KNOBS, "teacher": str(file), "teacher_temperature": 2.0, "augment.mixup": 0.4, "label_smoothing": 0.1}
    configs = [make_config(**knobs, teacher_weight=weight, seed=seed) for seed, weight in enumerate((0.9, 0.0, None))]
    with_weights = configs[:2]  # a knob of a stack is null in all of its runs or in none
    engine.fit(with_weights, [tmp_path / "stack0", tmp_path / "stack1"])
    for run, config in enumerate(configs):
        engine.fit([config], [tmp_path / f"solo{run}"])
        if run < 2:
            assert_same_run(tmp_path / f"stack{run}", tmp_path / f"solo{run}", rel=1e-9, abs=1e-9)
    engine.fit([make_config(**{**KNOBS, "augment.mixup": 0.4, "label_smoothing": 0.1}, seed=1)], [tmp_path / "plain"])
    weights = {name: checkpoint.load(tmp_path / name / "last.safetensors")["weights"] for name in ("plain", "solo1")}
    torch.testing.assert_close(weights["plain"], weights["solo1"])  # a teacher without weight teaches nothing
    with monkeypatch.context() as patch:
        crash_in(patch, 3)
        with pytest.raises(Crash):
            engine.fit(configs[:1], [tmp_path / "stopped"])
    other = replace(read(file), path=file)
    replace(other, probabilities=other.probabilities.roll(1, 1)).write()
    refuses(
        lambda: engine.fit(configs[:1], [tmp_path / "stopped"]), "was trained by another teacher", "their bytes differ"
    )
    other.write()
    engine.fit(configs[:1], [tmp_path / "stopped"])
    assert_same_run(tmp_path / "stopped", tmp_path / "solo0")
    assert (read_result(tmp_path / "solo0") or {})["teacher"] == other.digest
    file.unlink()  # who only measures needs no teacher
    assert evaluate(tmp_path / "solo0")["test/loss"] == (read_result(tmp_path / "solo0") or {})["metrics"]["test/loss"]
    assert load(tmp_path / "solo0").predict(torch.zeros(1, 784)).shape == (1,)


def test_a_teacher_that_knows_validation_rows_is_refused(taught):
    at = {"teacher": str(taught[1])}
    refuses(lambda: assemble([make_config(**KNOBS | {"data.split": 0.5}, **at)]),
            "was trained on 180 of the 300 validation rows", "would give them away")  # fmt: skip
    assert assemble([make_config(**KNOBS | {"data.split": 1.0}, **at)]).dataset.teacher


def test_a_teacher_of_other_data_or_none_at_all_is_refused(taught, tmp_path):
    def starts(file, **knobs):
        return lambda: assemble([make_config(**KNOBS, teacher=str(file), **knobs)])

    replace(read(taught[1]), path=tmp_path / "other", data="0123456789ab").write()
    refuses(starts(tmp_path / "other"), "is of other data (0123456789ab there")
    damaged = bytearray(taught[1].read_bytes())
    damaged[-9] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    refuses(starts(tmp_path / "damaged"), "is damaged or no teacher", "--teach FILE")
    refuses(starts(taught[0][0] / "last.safetensors"), "is damaged or no teacher")
    refuses(starts(tmp_path / "nowhere"), "nowhere cannot be read: No such file")
    for wrong in (torch.ones(5, 10), torch.full((5, 10), torch.nan), torch.eye(10)[:5] * -1, torch.zeros(5)):
        Teacher(tmp_path / "wrong", wrong, torch.zeros(5, dtype=torch.bool), "", {}).write()
        refuses(starts(tmp_path / "wrong"), "is damaged or no teacher")
    for shape in ((60_000, 9), (599, 10)):
        part = read(taught[1])
        probabilities = torch.full(shape, 1 / shape[1])
        replace(part, path=tmp_path / "part", probabilities=probabilities, trained=part.trained[: shape[0]]).write()
        refuses(starts(tmp_path / "part"), "is damaged", f"{shape[0]:,} rows of {shape[1]} classes")
    refuses(lambda: make_config(loss="brier", teacher="x"), "teacher must be null unless loss=cross_entropy")
    refuses(lambda: make_config("autoencoder", teacher="x"), "teacher must be null unless loss=cross_entropy")
    refuses(lambda: make_config(teacher_weight=2), "teacher_weight must be in [0, 1], got 2")
    refuses(lambda: make_config(teacher_temperature=0), "teacher_temperature must be greater than 0")
    assert config_hash(make_config()) == "248f538a93fb"


def test_the_command_writes_a_teacher_that_a_run_learns_from(taught, tmp_path, monkeypatch, capsys):
    file = tmp_path / "teacher.safetensors"
    status, out, err = said(monkeypatch, capsys, main, *taught[0], "--teach", file, "--views", "flip")
    assert status == 0, err
    assert f"{file} has the probabilities of 60,000 training rows, of which members were trained on 480" in out
    assert read(file).about["views"] == "flip"
    assert not torch.equal(read(file).probabilities, read(taught[1]).probabilities)
    engine.fit([make_config(**KNOBS, teacher=str(file), debug=True, **{"data.split": 1.0})], [tmp_path / "run"])
    status, _, err = said(monkeypatch, capsys, main, *taught[0], "--teach", tmp_path / "no" / "file")
    assert (status, err.startswith("error: --teach must name a file in an existing folder")) == (2, True)
