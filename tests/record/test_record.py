"""The record: rows and result."""

import json
from dataclasses import asdict

import pytest
import torch
from helpers import MODELS, SMALL, make_config
from training import strict

from fmnist.config.schema import MODELS as KINDS
from fmnist.program import version
from fmnist.program.files import replacing
from fmnist.record import checkpoint
from fmnist.record.record import Record
from fmnist.record.result import metrics_in_words
from fmnist.speed.kernels import Kernels
from fmnist.train import engine


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    engine.fit([make_config(**MODELS["mlp"], **SMALL, dropout=0.5, batch_norm=True)], [directory])
    return directory


def test_the_result_says_how_it_was_made(run):
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "done"
    assert result["error"] is None
    assert result["epoch"] == 3
    assert result["seconds"] > 0
    assert set(result["versions"]) >= {"python", "torch"}
    assert result["config"]["model"] == {"name": "mlp", "hidden": [20, 12], "activation": "relu"}
    assert result["objective"] == result["metrics"]["validation/accuracy"]


def test_all_commits_that_trained_a_run_are_in_its_record(tmp_path, monkeypatch):
    config, told = make_config(), []
    for epoch, commit in enumerate(("a", "a", "b+", None, "a", "c")):
        monkeypatch.setattr("fmnist.record.record.commit", lambda commit=commit: commit)
        record = Record(config, tmp_path, epoch)
        record.save(epoch=epoch + 1)
        told.append((record.result["commit"], record.result["commits"]))
    assert told == [("a", ["a"]), ("a", ["a"]), ("b+", ["a", "b+"]), (None, ["a", "b+"]), ("a", ["a", "b+"]),
                    ("c", ["a", "b+", "c"])]  # fmt: skip


def test_the_commit_of_an_older_record_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("fmnist.record.record.commit", lambda: "new")
    config = make_config()
    Record(config, tmp_path).save(epoch=1)
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    del result["commits"]
    (tmp_path / "result.json").write_text(json.dumps(result | {"commit": "old"}), encoding="utf-8")
    assert Record(config, tmp_path, epoch=1).result["commits"] == ["old", "new"]
    assert Record(config, tmp_path, epoch=0).result["commits"] == ["new"]  # begun anew


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def write(text):
        with replacing(tmp_path / "text") as file:
            file.write(text)

    write("old")
    checkpoint.save(tmp_path / "state", {"weights": 1})

    def crash(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("fmnist.program.files.os.fsync", crash)
    with pytest.raises(OSError, match="full"):
        write("new")
    with pytest.raises(OSError, match="full"):
        checkpoint.save(tmp_path / "state", {"weights": 2})
    assert (tmp_path / "text").read_text() == "old"
    assert checkpoint.load(tmp_path / "state") == {"weights": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "text"]


def test_an_error_in_training_is_recorded_and_raised(tmp_path, monkeypatch):
    def broken(self, epoch):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("fmnist.train.stack.Stack.train_epoch", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.fit([make_config(**MODELS["mlp"], **SMALL)], [tmp_path])
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["error"]) == ("failed", "RuntimeError: out of memory")


CHANGES = {
    "the code": ({"commit": "a" * 40}, f"commit was {'a' * 40} and is {'b' * 40} now"),
    "torch": ({"versions": {"python": "3.11.2", "torch": "2.9.1"}}, "versions.torch was 2.9.1 and is 2.14.1 now"),
    "threads": ({"machine": {"threads": 8}}, "machine.threads was 8 and is 2 now"),
    "a kernel": ({"kernels": {"wide": "medium", "gone": True}}, "kernels.wide was medium and is highest now"),
    "nothing": ({}, None), "no such facts": ({"commit": None, "versions": {}, "machine": None, "kernels": None}, None),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_run_that_goes_on_says_what_has_changed(what, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("fmnist.record.record.commit", lambda: "b" * 40)
    monkeypatch.setattr("fmnist.record.record.versions", lambda: {"python": "3.11.2", "torch": "2.14.1"})
    facts = {"machine": {"threads": 2}, "kernels": {"wide": "highest"}}
    Record(make_config(), tmp_path, **facts).save()
    changed, line = CHANGES[what]
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    (tmp_path / "result.json").write_text(json.dumps(result | changed), encoding="utf-8")
    Record(make_config(epochs=9, eval_every=9), tmp_path, epoch=1, **facts)
    assert [text.split(":")[0] for text in caplog.messages] == ([line] if line else [])
    caplog.clear()
    Record(make_config(), tmp_path, **facts)  # begun anew
    assert not caplog.messages


def test_all_that_decides_the_bits_is_in_the_result(run):
    result = strict((run / "result.json").read_text(encoding="utf-8"))
    assert result["config"]["seed"] == result["config"]["order_seed"] == 0
    assert set(result["versions"]) == {"python", "fmnist", "torch", "hydra-core", "tensorboard"}
    assert result["machine"]["threads"] == torch.get_num_threads()
    assert result["machine"]["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert result["machine"]["processor"]
    assert result["kernels"] == asdict(Kernels())  # those of float64
    assert len(result["data"]) > 9
    assert result["commit"] == version.commit()


def test_the_line_of_an_epoch_has_the_metrics_with_charts_alone():
    metrics = {"train/loss": 300.0, "train/mae": 0.4, "validation/psnr": 8.0, "gradients/0": 1.0, "validation/mse": 0.2}
    assert metrics_in_words(metrics, KINDS["autoencoder"]) == (
        "train loss 300.0000 mae 0.4000  gradients 0 1.0000  validation mse 0.2000"
    )
    assert "psnr" in metrics_in_words(metrics)
