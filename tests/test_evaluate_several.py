"""fmnist.evaluate: several runs in one table, what probabilities are worth, pictures."""

import json
import re

import pytest
import torch
from helpers import MODELS, SMALL, make_config, refuses, said
from PIL import Image
from report.made_up import write_run
from sklearn import metrics as reference
from training import KINDS, data_kept, quick_disk, strict  # noqa: F401 - two are fixtures that serve each test

from fmnist import evaluate as evaluation
from fmnist.evaluate import evaluate, table
from fmnist.finished.load import ask
from fmnist.finished.scores import several
from fmnist.finished.tables import of_several
from fmnist.train import engine

KNOBS = {**MODELS["mlp"], **SMALL}
MEASURED_ONCE = ("negative_iwae", "holes", "auroc", "auroc_elbo", "auroc_scaled", "auroc_with_code")


def trained(folder, seeds=(0, 1), **knobs):
    """The directories of runs that were trained together."""
    directories = [folder / str(seed) for seed in seeds]
    engine.fit([make_config(**{**KNOBS, **knobs}, seed=seed) for seed in seeds], directories)
    return directories


def test_the_probabilities_of_a_run_are_judged_by_a_temperature_of_its_validation_rows(tmp_path):
    (directory,) = trained(tmp_path, (0,))
    found = evaluate(directory)
    (asked,) = ask([directory])
    p, labels = asked.test.probabilities.numpy(), asked.test.labels
    own = found["scores"]["test"]
    assert own["accuracy"] == pytest.approx(found["test/accuracy"])
    assert own["log_loss"] == pytest.approx(found["test/loss"])
    assert own["macro_f1"] == pytest.approx(reference.f1_score(labels, p.argmax(-1), average="macro"))
    assert [*found["f1"].values()] == pytest.approx(reference.f1_score(labels, p.argmax(-1), average=None).tolist())
    cooled = (asked.test.logits.double() / found["temperature"]).softmax(-1).numpy()
    after = found["scores"]["test at temperature"]
    assert after["log_loss"] == pytest.approx(reference.log_loss(labels, cooled))
    assert after["accuracy"] == own["accuracy"]
    validation = asked.validation
    best = reference.log_loss(validation.labels, (validation.logits.double() / found["temperature"]).softmax(-1))
    for other in (0.9, 1.1):
        p = (validation.logits.double() / found["temperature"] / other).softmax(-1)
        assert best < reference.log_loss(validation.labels, p)
    assert sum(own["examples"] for own in found["reliability"]) == 600
    assert f"test at temperature {found['temperature']:.4g}" in table(found)


def test_without_validation_rows_there_is_no_temperature(tmp_path):
    (directory,) = trained(tmp_path, (0,), **{"data.split": 1.0})
    found = evaluate(directory)
    assert [*found["scores"]] == ["test"]
    assert "no validation rows: no temperature is chosen" in table(found)


def test_a_loss_over_rows_gives_probabilities_of_classes(tmp_path):
    (directory,) = trained(tmp_path, (0,), loss="report_rows")
    found = evaluate(directory)
    assert found["scores"]["test"]["accuracy"] == pytest.approx(found["test/accuracy"])
    (asked,) = ask([directory])
    assert torch.allclose(asked.test.probabilities.sum(-1), torch.ones(600, dtype=torch.float64))


def test_several_runs_stand_in_one_table_with_means_and_paired_tests(tmp_path):
    good, poor = trained(tmp_path / "good"), trained(tmp_path / "poor", lr=1e-5)
    found = several([*good, *poor])
    (group,) = found["groups"]
    single = {directory: evaluate(directory) for directory in (*good, *poor)}
    for run in group["runs"]:
        (own,) = [metrics for directory, metrics in single.items() if str(directory) == run["run"]]
        for name, value in own["scores"]["test"].items():
            assert run["metrics"][name] == pytest.approx(value, rel=1e-5)
        assert run["metrics"]["temperature"] == pytest.approx(own["temperature"], rel=1e-3)
    best, worst = group["configurations"]
    accuracies = [single[directory]["test/accuracy"] for directory in good]
    spread = torch.tensor(accuracies, dtype=torch.float64)
    assert best["metrics"]["accuracy"]["mean"] == pytest.approx(spread.mean().item())
    assert best["metrics"]["accuracy"]["std"] == pytest.approx(spread.std().item())
    assert [test["run"] for test in group["paired"]] == [str(good[1]), *map(str, poor)]
    last = group["paired"][-1]
    difference = single[poor[1]]["test/accuracy"] - single[good[0]]["test/accuracy"]
    assert last["difference"] == pytest.approx(difference)
    assert last["p"] < 1e-4
    (seeds,) = group["over_seeds"]["tests"]
    assert (seeds["configuration"], seeds["pairs"]) == (worst["configuration"], 2)
    text = of_several(found)
    assert re.search(r"^mean of 2 runs, lr 0.001 +0\.", text, re.MULTILINE)
    assert "against good/0 on the same test images" in text


def test_any_run_may_be_the_baseline(tmp_path, monkeypatch, capsys):
    first, second = trained(tmp_path)
    status, out, _ = said(monkeypatch, capsys, evaluation.main, first, "--baseline", second, "--json")
    (group,) = strict(out)["groups"]
    assert (status, group["baseline"]) == (0, str(second))
    assert [test["run"] for test in group["paired"]] == [str(first)]


def test_options_hold_for_several_runs_and_for_a_sweep(tmp_path, monkeypatch, capsys):
    trained(tmp_path)
    arguments = (tmp_path, "--rows", "0:50", "--weights", "best", "--json")
    status, out, _ = said(monkeypatch, capsys, evaluation.main, *arguments)
    (group,) = strict(out)["groups"]
    assert (status, group["paired"][0]["n"]) == (0, 50)
    for run in group["runs"]:
        own = evaluate(tmp_path / run["run"], "best", rows=slice(0, 50))
        assert run["metrics"]["accuracy"] == pytest.approx(own["test/accuracy"])
    status, out, _ = said(monkeypatch, capsys, evaluation.main, tmp_path, "--rows", "0:50")
    assert out.startswith("test images: its own, rows 0:50\n")
    status, out, _ = said(monkeypatch, capsys, evaluation.main, tmp_path, "--json")
    (configuration,) = strict(out)["configurations"]
    assert (status, configuration["metrics"]["test/accuracy"]["n"]) == (0, 2)


def test_a_run_that_cannot_be_measured_stands_with_its_recorded_metrics(tmp_path):
    (directory,) = trained(tmp_path / "runs", (0,))
    gone = write_run(tmp_path / "runs" / "gone", 0.5, seed=7, **{"model.hidden": [20, 12], "data.limit": 600})
    found = several([directory, gone])
    runs = {run["run"]: run for group in found["groups"] for run in group["runs"]}
    assert runs[str(gone)]["metrics"] == {"accuracy": 0.49}
    assert "gone: as recorded, for it cannot be measured: no weights in" in of_several(found)
    changed = several([directory, gone], again=True, weights="last")
    assert changed["not_counted"][0]["run"] == str(gone)
    refuses(lambda: several([gone], again=True, weights="last"), "no weights in")


def test_models_that_cannot_be_compared_stand_apart(tmp_path):
    classifiers = trained(tmp_path / "mlp", (0,))
    engine.fit([make_config(**SMALL, **KINDS["code"], figures=False)], [tmp_path / "code"])
    found = several([*classifiers, tmp_path / "code"])
    assert sorted(group["title"] for group in found["groups"]) == ["autoencoder, loss mae", "classifiers"]
    assert all(not group["paired"] for group in found["groups"])
    assert {"holes", "mse"} <= {*found["groups"][0]["runs"][0]["metrics"], *found["groups"][1]["runs"][0]["metrics"]}


@pytest.mark.long
def test_pictures_show_mistakes_confusion_and_calibration_or_what_is_worst(tmp_path, monkeypatch, capsys):
    (directory,) = trained(tmp_path / "mlp", (0,))
    status, out, _ = said(monkeypatch, capsys, evaluation.main, directory, "--pictures", tmp_path / "pictures")
    names = ["confusion", "reliability", "mistakes", "confused"]
    assert status == 0
    assert out.splitlines()[-4:] == [f"picture: {tmp_path}/pictures/{name}.png" for name in names]
    engine.fit([make_config(**SMALL, **KINDS["vae"], figures=False)], [tmp_path / "vae"])
    assert evaluate(tmp_path / "vae", pictures=tmp_path / "pictures")["pictures"] == [f"{tmp_path}/pictures/worst.png"]
    for name in (*names, "worst"):
        with Image.open(tmp_path / "pictures" / f"{name}.png") as image:
            assert len(image.convert("L").getcolors(1 << 24)) > 50, name  # it is not empty


@pytest.mark.parametrize("kind", ["code", "one class", "vae of one class"])
def test_what_is_measured_once_is_measured_again_on_other_rows(kind, tmp_path, monkeypatch, capsys):
    directories = [tmp_path / str(seed) for seed in (0, 1)]
    knobs = {**SMALL, **KINDS[kind], "figures": False}
    engine.fit([make_config(**knobs, seed=seed) for seed in (0, 1)], directories)
    status, out, _ = said(monkeypatch, capsys, evaluation.main, *directories, "--rows", "50:250", "--json")
    assert status == 0
    (group,) = json.loads(out)["groups"]
    assert len(group["runs"]) == 2
    for run, directory in zip(group["runs"], directories, strict=True):
        alone = evaluate(directory, rows=slice(50, 250))
        own = {name: alone[f"test/{name}"] for name in MEASURED_ONCE if f"test/{name}" in alone}
        assert own
        assert {name: run["metrics"][name] for name in own} == pytest.approx(own)
