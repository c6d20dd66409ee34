"""What classifiers leave of their mistakes when they have trained."""

import json
from base64 import b64decode

import pytest
import torch
from helpers import SMALL, make_config, tiny
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist.evaluate import evaluate
from fmnist.record.result import read_result
from fmnist.report import records
from fmnist.train import engine
from fmnist.train.restore import restore
from fmnist.view import ending

KNOBS = {**SMALL, "figures": True, "epochs": 2, "model.hidden": [12], "precision": "float32"}


def left(directory):
    return json.loads((directory / "mistakes.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("knobs", [{}, {"loss": "report_rows"}, {"precision": "float64", "norm": "batch"},
                                   {"select": "best", "epochs": 3, "lr": 0.05}])  # fmt: skip
def test_they_are_those_of_the_weights_that_are_tested(knobs, tmp_path):
    engine.fit([make_config(**{**KNOBS, **knobs})], [tmp_path])
    found, metrics = left(tmp_path), evaluate(tmp_path)
    assert found["confusion"] == metrics["confusion"]
    assert found["classes"] == list(metrics["recall"])
    stack = restore(tmp_path)
    test = stack.dataset.test
    assert len(found["worst"]) == 16
    sure = [each["probability"] for each in found["worst"]]
    assert sure == sorted(sure, reverse=True)
    assert all(0 < probability <= 1 for probability in sure)
    with torch.no_grad():
        output = stack.model(stack.input(test))[0]
    predicted = stack.criterion.predict(output)
    for each in found["worst"]:
        assert each["label"] == test.labels[each["image"]] != each["predicted"] == predicted[each["image"]]
        assert b64decode(each["pixels"]) == bytes(test.images[each["image"]].tolist())
    if "loss" not in knobs:
        probability = output.double().softmax(-1).max(-1).values.masked_fill(predicted == test.labels, 0)
        assert sure == pytest.approx(probability.topk(16).values.tolist(), abs=1e-5)


def test_the_report_reads_them_and_counts_the_parameters(tmp_path):
    engine.fit(
        [
            make_config(
                "deep", **{**SMALL, "figures": True, "epochs": 2, "model.width": 5, "model.depth": 3}, norm="batch"
            )
        ],
        [tmp_path],
    )
    found = records.mistakes(tmp_path, 2)
    assert found.size == (28, 28)
    assert sum(map(sum, found.confusion)) == 600
    assert records.mistakes(tmp_path, 3) is None
    parameters = sum(each.numel() for each in restore(tmp_path).model.parameters())
    assert records.parameters(tmp_path) == parameters > 784 * 5


def test_runs_of_a_stack_leave_what_they_would_alone(tmp_path):
    configs = [make_config(**KNOBS, lr=lr, seed=0) for lr in (1e-3, 1e-2)]
    configs[1].figures = False
    third = make_config(**KNOBS, lr=1e-2, seed=1)
    engine.fit([*configs, third], [tmp_path / name for name in ("a", "quiet", "b")])
    engine.fit([third], [tmp_path / "alone"])
    assert not (tmp_path / "quiet" / "mistakes.json").exists()
    assert left(tmp_path / "b")["confusion"] == left(tmp_path / "alone")["confusion"]
    assert left(tmp_path / "b") != left(tmp_path / "a")


def test_few_images_of_another_size(tmp_path):
    (tmp_path / "data").mkdir()
    tiny(tmp_path / "data")
    knobs = {"data": "idx", "data.dir": str(tmp_path / "data"), "epochs": 1, "model.hidden": [4], "batch_size": 4}
    engine.fit([make_config(**knobs, figures=True)], [tmp_path / "run"])
    found = records.mistakes(tmp_path / "run", 1)
    assert found.size == (3, 2)
    assert len(found.worst) == sum(n for a, row in enumerate(found.confusion) for b, n in enumerate(row) if a != b)


def broken(*_):
    raise OSError("no room")


def test_what_cannot_be_found_is_a_warning_that_names_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ending, "mistakes", broken)
    (outcome,) = engine.fit([make_config(**KNOBS)], [tmp_path])
    assert outcome.error is None
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage() == "mistakes.json could not be made: OSError: no room"


def test_a_run_that_cannot_write_them_fails_and_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ending, "write", broken)
        with pytest.raises(OSError, match="no room"):
            engine.fit([make_config(**KNOBS)], [tmp_path])
    assert read_result(tmp_path)["status"] == "failed"
    engine.fit([make_config(**KNOBS)], [tmp_path])
    assert read_result(tmp_path)["status"] == "done"
    assert left(tmp_path)["confusion"] == evaluate(tmp_path)["confusion"]
