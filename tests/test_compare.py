"""fmnist.compare: two runs, from their records and over the test images."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import SMALL, make_config, refuses, said
from PIL import Image
from report.made_up import change, write_run
from scipy import stats
from training import KINDS, data_kept, quick_disk, strict  # noqa: F401 - two are fixtures that serve each test

from fmnist.compare import compare, main, text
from fmnist.data.dataset import Split
from fmnist.finished.load import ask
from fmnist.finished.pairs import not_comparable
from fmnist.finished.pairs import tested as paired_test
from fmnist.report import pair
from fmnist.train import engine


def trained(folder, pairs, **knobs):
    """Two runs; pairs: knobs in which they differ, each with two values."""
    directories = (folder / "one", folder / "other")
    for number, directory in enumerate(directories):
        own = {name: values[number] for name, values in pairs.items()}
        engine.fit([make_config(**{**SMALL, "figures": False, **knobs, **own})], [directory])
    return directories


def test_two_classifiers_are_compared_image_by_image(tmp_path):
    directories = trained(tmp_path, {"lr": (1e-3, 1e-2)}, **{"model.hidden": [12]})
    found = compare(directories, pictures=tmp_path / "pictures")
    one, other = ask(directories)
    test = found["paired"]
    table = [[test["both"], test["only_one"]], [test["only_other"], test["neither"]]]
    expected = torch.zeros(2, 2, dtype=torch.int64)
    for a, b in zip(one.test.right.tolist(), other.test.right.tolist(), strict=True):
        expected[1 - a, 1 - b] += 1
    assert table == expected.tolist()
    assert test["n"] == sum(map(sum, table)) == 600
    accuracies = [found["metrics"]["test/accuracy"][run] for run in (0, 1)]
    assert test["difference"] == pytest.approx(accuracies[0] - accuracies[1])
    assert test["low"] < test["difference"] < test["high"] < 0
    assert test["p"] == stats.binomtest(test["only_one"], test["only_one"] + test["only_other"]).pvalue
    first = found["disagreement"][0]
    assert one.test.predicted[first] != other.test.predicted[first]
    apart = one.test.predicted != other.test.predicted
    sure = (one.test.certainty + other.test.certainty)[apart].max()
    assert (one.test.certainty + other.test.certainty)[first] == sure
    (file,) = found["pictures"]
    with Image.open(file) as image:
        assert image.size[0] > 500
    assert found["differences"]["knobs"] == {"lr": [1e-3, 1e-2]}
    assert found["differences"]["same_data"]
    assert {"commit", "versions", "machine"} <= {*found["differences"]["same_facts"]}
    assert "one wrong" in text(found | {"pictures": []})


def test_two_autoencoders_are_compared_by_what_their_metrics_have_in_common(tmp_path):
    directories = trained(tmp_path, {"lr": (1e-3, 1e-2)}, **KINDS["code"])
    found = compare(directories, pictures=tmp_path / "pictures")["paired"]["metrics"]
    one, other = ask(directories)
    expected = stats.ttest_rel(one.test.metrics["loss"].double(), other.test.metrics["loss"].double())
    assert found["loss"]["p"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found["loss"]["low"], found["loss"]["high"]) == pytest.approx((interval.low, interval.high))
    (vae,) = [trained(tmp_path / "vae", {}, **KINDS["vae"])[0]]
    (third,) = ask([vae])
    assert [*paired_test(one, third)["metrics"]] == ["mae", "mse"]  # its loss is another
    assert not_comparable(one, ask([trained(tmp_path / "mlp", {}, **KINDS["mlp"])[0]])[0]).startswith(
        "a classifier and"
    )


def test_runs_are_tested_on_the_images_that_both_have(tmp_path):
    directories = trained(tmp_path, {"data.limit": (600, 500)}, **{"model.hidden": [12]})
    one, other = ask(directories)
    assert paired_test(one, other)["n"] == 500
    test = other.dataset.test
    changed = replace(other.dataset, test=Split(test.images + (torch.arange(500) == 7)[:, None], test.labels))
    other = replace(other, dataset=changed)
    assert not_comparable(one, other) == "they were tested on other images"


def test_where_the_records_alone_are_there_the_test_is_missing_and_says_why(tmp_path, monkeypatch, capsys):
    one, other = write_run(tmp_path / "one", 0.5), write_run(tmp_path / "other", 0.6, lr=0.01)
    found = compare((one, other))
    assert found["paired"] == {"missing": f"no weights in {one}: last.safetensors is missing"}
    assert found["metrics"]["test/accuracy"] == [0.49, 0.59]
    status, out, _ = said(monkeypatch, capsys, main, one, other, "--picture", tmp_path / "curves.svg")
    assert status == 0
    assert f"no paired test over the test images: no weights in {one}" in out
    assert "data: not recorded by both" in out
    svg = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert svg.count("<svg") == 1
    assert len(svg) < 100_000


def curve(directory, changes):
    """The record of a run whose training loss is 1, 1/2, 1/3 ..., times what is said for an epoch."""
    write_run(directory, 0.5, epochs=5)
    rows = [
        {"epoch": epoch, "train/loss": changes.get(epoch, 1.0) / epoch, "train/accuracy": 0.5} for epoch in range(1, 6)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pair.record_of(directory)


def test_curves_part_where_they_first_differ_and_where_rounding_does_not_explain_it(tmp_path):
    plain, same = curve(tmp_path / "plain", {}), curve(tmp_path / "same", {})
    assert pair.parting(plain, same) == {"epochs": 5, "at_all": None, "rounding": None}
    other = curve(tmp_path / "other", {2: 1 + 1e-7, 3: 1 + 1e-6, 4: 1.01})
    found = pair.parting(plain, other)
    assert found["at_all"] == {"epoch": 2, "metrics": ["train/loss"]}
    assert found["rounding"] == {"epoch": 4, "metrics": ["train/loss"]}
    short = pair.curves(plain, other)["train/loss"][1]
    assert (short["first"], short["best"], short["best_epoch"], short["last_epoch"]) == (1, 0.2, 5, 5)


def test_what_else_differs_is_named(tmp_path):
    directories = [write_run(tmp_path / name, 0.5) for name in ("one", "other")]
    change(directories[0], versions={"torch": "2.9"}, machine={"threads": 1}, data="a", kernels={})
    change(directories[1], versions={"torch": "2.10"}, machine={"threads": 1}, data="b", kernels={})
    found = pair.differences(*map(pair.record_of, directories))
    assert found == {"knobs": {}, "same_data": False, "same_facts": ["commit", "kernels", "machine"],
                     "facts": {"versions.torch": ["2.9", "2.10"]}}  # fmt: skip


def test_one_line_says_what_can_be_compared(tmp_path, monkeypatch, capsys):
    one, vae = write_run(tmp_path / "one", 0.5), write_run(tmp_path / "vae", 0.5, model="vae")
    shutil.copytree(one, tmp_path / "sweep" / "0")
    refuses(lambda: compare((one, vae)), "two classifiers can be compared, or two autoencoders")
    for mistake, line in {
        (one, tmp_path / "sweep"): f"error: {tmp_path / 'sweep'} has 1 run below it: name two runs",
        (one, tmp_path / "nothing"): "error: no run found in",
        (one, one, "--picture", "x.gif"): "error: --picture must end in one of .png",
    }.items():  # fmt: skip
        status, out, err = said(monkeypatch, capsys, main, *mistake)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert err.startswith(line)
    (vae / "metrics.jsonl").write_text("{\n{}\n")
    refuses(lambda: compare((vae, vae)), f"{vae}/metrics.jsonl: line 1 cannot be read")
    status, out, _ = said(monkeypatch, capsys, main, one, one, "--json")
    assert (status, strict(out)["parting"]["at_all"]) == (0, None)
