"""TensorBoard's mirror of a record."""

import errno
import json
import math
import os

import pytest
from helpers import MODELS, SMALL, events_of, make_config, rows_of
from normal import normal
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from fmnist.mirror.mirror import PARTS
from fmnist.mirror.summaries import about, of_config
from fmnist.record.record import Record
from fmnist.record.result import metrics_in_words, read_rows
from fmnist.train import engine


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sweep") / "run"
    (directory / ".hydra").mkdir(parents=True)
    typed = ["model=mlp1", "skip=null", "+dropout=0.5", "augment.flip=null", "anneal.noise=null"]
    (directory / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in typed), encoding="utf-8")
    engine.fit([make_config(**MODELS["mlp"], **SMALL, dropout=0.5, batch_norm=True)], [directory])
    return directory


def points(directory, part, tag):
    return [(event.step, event.value) for event in events_of(directory, part).Scalars(tag)]


def knobs_of(directory, part="validation"):
    """How HPARAMS names a run, its knobs, and how it ended."""
    contents = events_of(directory, part).PluginTagToContent("hparams")
    start, end = (plugin_data_pb2.HParamsPluginData.FromString(contents[f"_hparams_/session_{which}_info"])
                  for which in ("start", "end"))  # fmt: skip
    knobs = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.session_start_info.hparams.items()}
    return start.session_start_info.group_name, knobs, end.session_end_info.status


def test_tensorboard_mirrors_the_rows_and_the_test(run):
    rows = rows_of(run)
    for part in ("train", "validation"):
        for name in ("loss", "accuracy"):
            assert points(run, part, name) == [(row["epoch"], pytest.approx(row[f"{part}/{name}"])) for row in rows]
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert points(run, "validation", "test/accuracy") == [(3, pytest.approx(result["metrics"]["test/accuracy"]))]
    assert not [*run.glob("events*")]


def test_training_and_validation_have_the_same_tags_and_share_a_chart(run):
    events = events_of(run)
    assert events.Tags()["scalars"] == ["loss", "accuracy", "test/loss", "test/accuracy"]
    assert events_of(run, "train").Tags()["scalars"] == ["loss", "accuracy"]
    assert events.summary_metadata["custom_scalars__config__"].plugin_data.plugin_name == "custom_scalars"
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"^loss$" in layout
    assert b"^accuracy$" in layout


def test_hparams_has_the_knobs_that_a_run_has_and_the_nulls_that_were_typed(run):
    name, knobs, status = knobs_of(run)
    assert name == f"{run.parent.name}/run"
    assert status == 1  # success
    assert knobs["batch_norm"] is True
    assert knobs["dropout"] == 0.5
    assert {knobs[name] for name in ("skip", "augment.flip", "anneal.noise")} == {"null"}  # typed
    assert knobs["model"] == "mlp1"  # as typed, not "mlp"
    assert knobs["model.hidden"] == "[20, 12]"
    assert not {"patience", "grad_clip", "order_seed", "figures", "device"} & knobs.keys()


def test_the_text_has_the_command_and_the_config_and_nothing_in_it_is_markdown(run, tmp_path):
    text = events_of(run).Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "\n    python train.py model=mlp1 skip=null dropout=0.5 augment.flip=null anneal.noise=null\n" in text
    assert '\n    schedule: "one_cycle"\n' in text
    hostile = make_config(**{"data": "idx", "data.dir": "a\n\n# <img src=x onerror=alert(1)>\u2028`b`"})
    blocks = [line for line in about(hostile, tmp_path).splitlines() if "alert" in line]
    assert blocks == ['    data.dir: "a\\n\\n# <img src=x onerror=alert(1)>\\u2028`b`"']


def test_without_validation_rows_all_stands_with_training(tmp_path):
    engine.fit([make_config(**MODELS["mlp"], **SMALL, **{"data.split": 1.0})], [tmp_path])
    assert not (tmp_path / "validation").exists()
    assert knobs_of(tmp_path, "train")[2] == 1
    assert {"loss", "test/loss"} <= set(events_of(tmp_path, "train").Tags()["scalars"])


def test_the_accuracy_of_an_autoencoder_has_a_name_of_its_own(tmp_path):
    config = make_config(model="autoencoder", **{**SMALL, "epochs": 1, "figures": False, "model.hidden": [4]})
    engine.fit([config], [tmp_path])
    tags = {*events_of(tmp_path).Tags()["scalars"]}
    assert {"report_accuracy", "test/report_accuracy"} <= tags
    assert not {"accuracy", "test/accuracy"} & tags


def test_gradients_are_one_chart_by_layer(tmp_path):
    config = make_config(**MODELS["deep"], **SMALL, model="deep", watch="gradients", log_every=3)
    engine.fit([config], [tmp_path])
    events = events_of(tmp_path, "train")
    assert events.Tags()["scalars"] == ["loss", "accuracy"]
    assert events.Tags()["histograms"] == ["gradients by layer"]
    for event, row in zip(events.Histograms("gradients by layer"), rows_of(tmp_path), strict=True):
        norms = [value for tag, value in row.items() if tag.startswith("gradient/")]
        assert event.step == row["epoch"]
        assert event.histogram_value.bucket == pytest.approx(norms)
        assert event.histogram_value.bucket_limit == [1.5, 2.5, 3.5, 4.5, 5.5]


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
    assert [event.value for event in events_of(tmp_path, "train").Scalars("loss")] == [1.0, 0.5, 0.25]
    assert len(list(tmp_path.glob("train/events*"))) == 1


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
    assert [event.wall_time for event in events_of(tmp_path, "train").Scalars("loss")] == times
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"] == {"train/loss": 0.25}  # a time is no metric


def test_older_rows_have_no_times_and_go_on(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "train/loss": 0.5}\n', encoding="utf-8")
    record = Record(make_config(), tmp_path, epoch=1)
    record.add(2, {"train/loss": 0.25})
    assert ["time" in row for row in read_rows(tmp_path)] == [False, True]
    assert [event.step for event in events_of(tmp_path, "train").Scalars("loss")] == [1, 2]


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
    assert len(list((tmp_path / "full").glob("*/events*"))) == 2
    one, other = (normal(tmp_path / name) for name in ("straight", "full"))
    assert {name for name in one if "events" in name} == {"train/events", "validation/events"}
    assert [one[f"{part}/events"] for part in PARTS[:2]] == [other[f"{part}/events"] for part in PARTS[:2]]


def test_a_line_of_the_console_has_the_range_of_many_values():
    many = {f"gradient/{layer:03d}": 10.0**-layer for layer in range(1, 58)}
    assert metrics_in_words({"train/loss": 0.5} | many) == "train loss 0.5000  gradient 57 values from 1e-57 to 0.1"
    assert metrics_in_words(dict.fromkeys(many, math.nan)).startswith("gradient 001 undefined 002")


def test_the_name_of_a_folder_may_be_no_utf8(tmp_path):
    """As that of any folder with an accent is in a locale of ASCII alone."""
    directory = tmp_path / os.fsdecode(b"na\xefve") / "run"
    _, trial, _ = of_config(make_config(**MODELS["mlp"], **SMALL), directory, 0.0)
    found = plugin_data_pb2.HParamsPluginData.FromString(trial.value[0].metadata.plugin_data.content)
    assert found.session_start_info.group_name == "na?ve/run"
    engine.fit([make_config(**MODELS["mlp"], **SMALL)], [directory])
