"""The record: rows, result and TensorBoard's mirror of them."""

import errno
import json
from dataclasses import asdict

import pytest
import torch
from helpers import MODELS, SMALL, events_of, make_config, rows_of
from normal import normal
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from training import strict

from fmnist.config.schema import MODELS as KINDS
from fmnist.program import version
from fmnist.record import checkpoint
from fmnist.record.files import replacing
from fmnist.record.record import Record
from fmnist.record.result import metrics_in_words, read_rows
from fmnist.speed.kernels import Kernels
from fmnist.train import engine


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    engine.fit([make_config(**MODELS["mlp"], **SMALL, dropout=0.5, batch_norm=True)], [directory])
    return directory


def test_tensorboard_mirrors_the_rows_and_the_test(run):
    events, rows = events_of(run), rows_of(run)
    for tag in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        assert points == [(row["epoch"], pytest.approx(row[tag], rel=1e-6)) for row in rows]
    result = json.loads((run / "result.json").read_text())
    (test,) = events.Scalars("test/accuracy")
    assert (test.step, test.value) == (3, pytest.approx(result["metrics"]["test/accuracy"]))


def test_tensorboard_has_one_chart_for_train_and_validation_and_the_true_config(run):
    events = events_of(run)
    assert events.summary_metadata["custom_scalars__config__"].plugin_data.plugin_name == "custom_scalars"
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    for tag in (b"train/loss", b"validation/loss", b"train/accuracy", b"validation/accuracy"):
        assert tag in layout
    contents = events.PluginTagToContent("hparams")
    start = plugin_data_pb2.HParamsPluginData.FromString(contents["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["batch_norm"].bool_value is True
    assert start.hparams["dropout"].number_value == 0.5
    assert start.hparams["skip"].string_value == "null"
    assert start.hparams["model.hidden"].string_value == "[20, 12]"
    end = plugin_data_pb2.HParamsPluginData.FromString(contents["_hparams_/session_end_info"]).session_end_info
    assert end.status == 1  # success


def test_the_mirror_is_made_anew_when_a_run_goes_on(tmp_path):
    config = make_config()
    first = Record(config, tmp_path)
    for epoch in (1, 2, 3):
        first.add(epoch, {"train/loss": 1.0 / epoch})
    first.save(epoch=2)

    second = Record(config, tmp_path, epoch=2)
    second.add(3, {"train/loss": 0.25})
    second.finish("done", epoch=3)
    assert [row["train/loss"] for row in rows_of(tmp_path)] == [1.0, 0.5, 0.25]
    assert [event.value for event in events_of(tmp_path).Scalars("train/loss")] == [1.0, 0.5, 0.25]
    assert len(list(tmp_path.glob("events*"))) == 1


def test_the_result_says_how_it_was_made(run):
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "done"
    assert result["error"] is None
    assert result["epoch"] == 3
    assert result["seconds"] > 0
    assert set(result["versions"]) >= {"python", "torch"}
    assert result["config"]["model"] == {"name": "mlp", "hidden": [20, 12], "activation": "relu"}
    assert result["objective"] == result["metrics"]["validation/accuracy"]


def test_rows_keep_their_times_when_a_run_goes_on_in_the_mirror_too(tmp_path, monkeypatch):
    now = 1e9
    monkeypatch.setattr("time.time", lambda: now)
    config = make_config()
    record = Record(config, tmp_path)
    for _ in range(2):
        now += 60
        record.add(int(now - 1e9) // 60, {"train/loss": 0.5})
    record.finish("interrupted", epoch=2)
    now += 86_400  # the pause
    record = Record(config, tmp_path, epoch=2)
    now += 60
    record.add(3, {"train/loss": 0.25})
    record.finish("done", epoch=3)
    times = [1e9 + 60, 1e9 + 120, 1e9 + 180 + 86_400]
    assert [row["time"] for row in read_rows(tmp_path)] == times
    assert [event.wall_time for event in events_of(tmp_path).Scalars("train/loss")] == times
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"] == {"train/loss": 0.25}  # a time is no metric


def test_older_rows_have_no_times_and_go_on(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "train/loss": 0.5}\n', encoding="utf-8")
    record = Record(make_config(), tmp_path, epoch=1)
    record.add(2, {"train/loss": 0.25})
    assert ["time" in row for row in read_rows(tmp_path)] == [False, True]
    assert [event.step for event in events_of(tmp_path).Scalars("train/loss")] == [1, 2]


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


@pytest.mark.parametrize("place", [0, 1, 2, 3, 5])
def test_a_mirror_that_cannot_be_written_is_one_warning_and_takes_nothing_from_the_run(
    place, tmp_path, monkeypatch, caplog
):
    """place: the event whose writing fails; those of the start, of a row, of the end."""
    events, write = [], RecordWriter.write

    def full(self, event):
        events.append(event)
        if len(events) > place:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, event)

    monkeypatch.setattr(RecordWriter, "write", full)
    (outcome,) = engine.fit([make_config(**{"data.limit": 50, "epochs": 3, "model.hidden": [3]})], [tmp_path])
    assert outcome.error is None
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["status"] == "done"
    assert len(rows_of(tmp_path)) == 3
    (warning,) = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert "events.out.tfevents" in warning
    assert "cannot be written: No space left on device" in warning


@pytest.mark.parametrize("place", [0, 5, 8])
def test_what_the_mirror_could_not_write_comes_with_the_next_row(place, tmp_path, monkeypatch):
    """Half an event is on the disk then: the file is cut before the rest is written."""
    events, write = [], RecordWriter.write

    def full_once(self, event):
        events.append(event)
        write(self, event)
        if len(events) == place + 1:
            self._writer.flush()
            self._writer.write(b"half an event")
            raise OSError(errno.ENOSPC, "No space left on device")

    knobs = make_config(**{"data.limit": 50, "epochs": 3, "model.hidden": [3]})
    engine.fit([knobs], [tmp_path / "straight"])
    monkeypatch.setattr(RecordWriter, "write", full_once)
    engine.fit([knobs], [tmp_path / "full"])
    assert len(events) > place + 1
    assert len(list((tmp_path / "full").glob("events*"))) == 1
    one, other = (normal(tmp_path / name)["events"] for name in ("straight", "full"))
    assert one == other


def test_a_projector_that_fails_leaves_no_file_behind(tmp_path):
    mirror = Record(make_config(), tmp_path).mirror
    with pytest.raises(AssertionError):
        mirror.embedding(torch.zeros(3, 2), ["one"], torch.zeros(3, 1, 2, 2))
    assert not list(tmp_path.glob("*.projector"))
    assert len(list(tmp_path.glob("events*"))) == 1


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def write(text):
        with replacing(tmp_path / "text") as file:
            file.write(text)

    write("old")
    checkpoint.save(tmp_path / "state", {"weights": 1})

    def crash(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("fmnist.record.files.os.fsync", crash)
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
    assert metrics_in_words(metrics, KINDS["autoencoder"]) == "train loss 300.0000 mae 0.4000  validation mse 0.2000"
    assert "psnr" in metrics_in_words(metrics)
