"""fmnist.evaluate: a run whose data were moved, and test images that are not its own."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import FILES, MODELS, SMALL, make_config, refuses, said, tiny, write
from training import data_kept, quick_disk, strict  # noqa: F401 - two are fixtures that serve each test

from fmnist import evaluate as evaluation
from fmnist.data.dataset import Split
from fmnist.evaluate import evaluate, table
from fmnist.train import engine
from fmnist.train.restore import restore
from fmnist.view.measure import final


@pytest.fixture
def trained(tmp_path):
    """The directory of a run on a small data set, tmp_path/data."""
    (tmp_path / "data").mkdir()
    tiny(tmp_path / "data")
    config = make_config(
        data="idx", epochs=2, batch_size=4, **{"data.dir": str(tmp_path / "data"), "model.hidden": [5]}
    )
    engine.fit([config], [tmp_path / "run"])
    return tmp_path / "run"


def test_data_that_were_moved_are_where_one_says(trained, tmp_path, monkeypatch, capsys):
    before = evaluate(trained)
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    assert evaluate(trained, data=str(moved)) == before
    status, out, _ = said(monkeypatch, capsys, evaluation.main, trained, "--data", moved)
    assert (status, out) == (0, table(before) + "\n")
    write(moved / FILES[2], torch.zeros(8, 3, 2).int())
    status, _, err = said(monkeypatch, capsys, evaluation.main, trained, "--data", moved)
    assert status == 2
    assert err.startswith(f"error: {trained} was trained on other data (")
    assert len(err.splitlines()) == 1


def test_fashion_mnist_need_not_lie_where_it_lay(tmp_path):
    (tmp_path / "gone").mkdir()
    engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path / "run"])
    file = tmp_path / "run" / "result.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    result["config"]["data"]["dir"] = str(tmp_path / "nowhere")
    file.write_text(json.dumps(result), encoding="utf-8")
    assert evaluate(tmp_path / "run")["test/loss"] == result["metrics"]["test/loss"]


def test_other_test_images_are_measured_and_named(trained, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other"
    other.mkdir()
    images, labels = torch.randint(256, (30, 3, 2)), torch.arange(30) % 3  # one class fewer
    write(other / "qmnist-test-images-idx3-ubyte.gz", images)
    write(other / "qmnist-test-labels-idx1-ubyte.gz", labels)
    before = (trained / "result.json").read_bytes()
    stack = restore(trained)
    stack.dataset = replace(stack.dataset, test=Split(images.flatten(1).to(torch.uint8), labels))
    expected = {tag: values[0] for tag, values in final(stack).items()}
    found = evaluate(trained, test=str(other))
    assert {tag: found[tag] for tag in expected} == expected
    assert sum(map(sum, found["confusion"])) == 30
    status, out, _ = said(monkeypatch, capsys, evaluation.main, trained, "--test", other, "--rows", "10:25")
    assert status == 0
    assert out.splitlines()[0] == f"test images: {other}, rows 10:25, 15 images"
    assert out.splitlines()[-1].endswith("no test images")
    status, out, _ = said(monkeypatch, capsys, evaluation.main, trained, "--json", "--rows", ":4")
    assert strict(out)["test images"] == "its own, rows 0:4, 4 images"
    assert (trained / "result.json").read_bytes() == before


def test_classes_of_other_test_images_are_known_by_their_names_or_labels(trained, tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    (data / "classes.txt").write_text("cat\ndog\nbird\nfish\n", encoding="utf-8")
    shutil.copytree(data, other)
    expected = evaluate(trained)
    assert [*expected["recall"]] == ["cat", "dog", "bird", "fish"]
    (other / "classes.txt").write_text("dog\nfish\nbird\ncat\n", encoding="utf-8")
    write(other / FILES[3], torch.tensor([3, 0, 2, 1])[torch.arange(8) % 4])
    assert evaluate(trained, test=str(other))["confusion"] == expected["confusion"]
    (other / "classes.txt").write_text("dog\nfish\nbird\nwolf\n", encoding="utf-8")
    refuses(lambda: evaluate(trained, test=str(other)), "class wolf, must be one of cat, dog, bird, fish")
    (other / "classes.txt").unlink()
    write(other / FILES[3], torch.arange(8) + 1)
    refuses(lambda: evaluate(trained, test=str(other)), f"{other / FILES[3]}: label 8, must be in 0..3")


def test_test_images_that_do_not_fit_are_refused(trained, tmp_path):
    other = tmp_path / "other"
    refuses(lambda: evaluate(trained, test=str(other)), f"--test must be an existing folder, got '{other}'")
    other.mkdir()
    refuses(lambda: evaluate(trained, test=str(other)), f"{other}: holds no t10k-images-idx3-ubyte or test-images")
    write(other / FILES[2], torch.zeros(4, 2, 3).int())
    write(other / FILES[3], torch.zeros(4).int())
    refuses(lambda: evaluate(trained, test=str(other)), f"--test: images in {other} are 2x3, must be 3x2")
    refuses(lambda: evaluate(trained, rows=slice(9, None)), "--rows must be some of the 8 test images")


@pytest.mark.parametrize("rows", ["10", "-3:", "a:b", "1:2:3"])
def test_rows_that_are_none_are_refused(trained, rows, monkeypatch, capsys):
    status, _, err = said(monkeypatch, capsys, evaluation.main, trained, f"--rows={rows}")
    assert status == 2
    assert f"argument --rows: must be FIRST:END, counted from 0, got '{rows}'" in err
