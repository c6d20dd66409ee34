"""The config: what is refused and how, what a run is identified by, and that the files in conf/ are the schema."""

import math
import re
import runpy
from dataclasses import asdict, fields, replace

import pytest
import yaml
from helpers import make_config

from fmnist import ROOT, UserError
from fmnist.config.annealing import at
from fmnist.config.parse import check_machine, config_hash, parse
from fmnist.config.schema import ASIDE, GROUPS, AnomalyConfig, Knobs, load_ideas
from fmnist.launch.manual import manual
from fmnist.record.record import Record
from fmnist.record.result import check_directory, of_run


def refusal(**knobs):
    with pytest.raises(UserError) as caught:
        make_config(**knobs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"dropout": 1.5}, "dropout must be in [0, 1), got 1.5"),
        ({"dropout": "abc"}, "dropout must be a number or null, got 'abc'"),
        ({"dropout": math.nan}, "dropout must be in [0, 1), got nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"lr": -1}, "lr must be greater than 0 and finite, got -1.0"),
        ({"lr": math.inf}, "lr must be greater than 0 and finite, got inf"),
        ({"epochs": "ten"}, "epochs must be a whole number, got 'ten'"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"epochs": None}, "epochs must be a whole number, got None"),
        ({"batch_norm": "maybe"}, "batch_norm must be true or false or null, got 'maybe'"),
        ({"schedule": "linear"}, "schedule must be one of constant, cosine, one_cycle, got 'linear'"),
        ({"data.split": 1.2}, "data.split must be in (0, 1], got 1.2"),
        ({"data": "idx"}, "data.dir must name the folder of the IDX files with data=idx, got null"),
        ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:x"}, "device must be auto, cpu, cuda or cuda:N, got 'cuda:x'"),
        ({"droput": 0.5}, "unknown knob droput: did you mean dropout?"),
        ({"modle": "mlp2"}, "unknown knob modle: did you mean model?"),
        ({"xyzzy": 1}, "unknown knob xyzzy: there are seed"),
        ({"model.hiden": [1]}, "unknown knob model.hiden: did you mean model.hidden?"),
        ({"model.hidden": []}, "model.hidden must name at least one hidden layer"),
        ({"model.hidden": [10, 0]}, "model.hidden must be at least 1, got [10, 0]"),
        ({"model.hidden": [1, "a"]}, "model.hidden must be a list of whole numbers, got [1, 'a']"),
        ({"model.hidden": 5}, "model.hidden must be a list of whole numbers, got 5"),
        ({"model.name": "cnn"}, "model.name must be one of linear, mlp, deep, autoencoder, vae"),
        ({"optim.betas": [0.9]}, "optim.betas must be two numbers in [0, 1), got [0.9]"),
        ({"optim": "sgd", "optim.momentum": 0, "optim.nesterov": True}, "optim.nesterov must be null unless"),
        ({"loss": "mse"}, "loss must be one of cross_entropy, brier, report, report_rows"),
        ({"loss": "report", "label_smoothing": 0.1}, "label_smoothing must be null unless loss=cross_entropy"),
        ({"batch_norm": True, "batch_size": 1}, "batch_size must be at least 2 with batch_norm, got 1"),
        ({"batch_norm": True, "norm": "layer"}, "norm must be batch or null with batch_norm=true, got 'layer'"),
        ({"norm": "group"}, "norm must be one of batch, layer"),
        ({"model.activation": "swish"}, "model.activation must be one of relu, leaky_relu, gelu, silu"),
        ({"model": "linear", "skip": True}, "skip must be null for model linear, got True: it has no hidden layer"),
        ({"model": "linear", "gate": "relu"}, "gate must be null for model linear, got relu: it has no hidden layer"),
        ({"gate": "swish"}, "gate must be one of relu, leaky_relu, gelu, silu"),
        ({"model": "linear", "watch": "inputs"}, "watch must be null for model linear, got inputs: it has no hidden"),
        ({"model": "vae", "augment.mixup": 0.2}, "augment.mixup must be null for model vae, got 0.2"),
        ({"augment.flipp": 0.5}, "unknown knob augment.flipp: there are shift, flip, cutout, mixup"),
        ({"augment.flip": 2}, "augment.flip must be in [0, 1], got 2"),
        ({"augment.shift": "far"}, "augment.shift must be a number or null"),
        ({"augment.shift": 1.5}, "augment.shift must be a whole number of at least 0, got 1.5"),
        ({"augment.cutout": 0.5}, "augment.cutout must be a whole number of at least 0, got 0.5"),
        ({"augment": 5}, "augment must be knobs with a value each, got 5"),
        ({"augment": {"shift": {"a": 1}}}, "augment must be knobs with a value each, got {'shift': {'a': 1}}"),
        ({"anomaly": 5}, "anomaly must be knobs with a value each, got 5"),
        ({"ema": 1}, "ema must be in [0, 1), got 1"),
        ({"select": "average"}, "ema must be set for select=average, e.g. ema=0.999, got null"),
        ({"data.split": 1.0, "select": "best"}, "data.split must be below 1 for select=best or patience"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"drop_path": 1.0, "skip": True}, "drop_path must be in [0, 1), got 1.0"),
        ({"drop_path": 0.5}, "skip must be true for drop_path"),
        ({"anneal.drop_path": [0.5, 0]}, "skip must be true for drop_path"),
        ({"model": "linear", "drop_path": 0.5}, "drop_path must be null for model linear, got 0.5: it has no hidden"),
        ({"anneal": 5}, "anneal must be knobs with a list each, got 5"),
        ({"anneal.dropout": 0.5}, "anneal must be knobs with a list each, got {'dropout': 0.5}"),
        ({"anneal.dropout": ["a", 0.5]}, "anneal.dropout must be a list of numbers"),
        ({"anneal.dropout": [0.1, 1.5]}, "anneal.dropout must be in [0, 1), got [0.1, 1.5]"),
        ({"anneal.dropout": []}, "anneal.dropout must be in [0, 1), got []"),
        ({"anneal.shift": [2.5, 0]}, "anneal.shift must be a whole number of at least 0, got [2.5, 0.0]"),
        ({"anneal.beta": [0, 1]}, "unknown knob anneal.beta: there are dropout, "),
        ({"model": "vae", "anneal.mixup": [1, 0]}, "augment.mixup must be null for model vae, got 1.0"),
        (
            {"anneal.dropout": [0.1, 0.2], "dropout": 0.3},
            "dropout must be left out, or be 0.2 as the last",
        ),
        (
            {"model": "vae", "anneal.beta": [0, 2], "model.beta": 3},
            "beta must be left out, or be 2 as the last of anneal",
        ),
        ({"anneal.shift": [2, 0], "augment.shift": 3}, "shift must be left out, or be 0 as the last of anneal"),
        ({"anneal.label_smoothing": [0.1, 0], "loss": "report"}, "label_smoothing must be null unless"),
    ],
)
def test_mistakes_are_refused_by_name(knobs, message):
    assert refusal(**knobs).startswith(message)


@pytest.mark.parametrize(("knobs", "message"), [
    ({"data.dir": "/nowhere"}, "data.dir must be an existing folder, got '/nowhere'"),
    ({"device": "cuda:99"}, "device must be one that is here"),
])  # fmt: skip
def test_what_this_machine_lacks_is_refused_where_a_run_is_to_start_and_nowhere_else(knobs, message):
    config = make_config(**knobs)
    with pytest.raises(UserError) as caught:
        check_machine(config)
    assert str(caught.value).startswith(message)


def test_augmentations_that_are_off_are_no_part_of_a_config():
    off = make_config(**{"augment.shift": None, "augment.flip": 0})
    assert off.augment == make_config(augment=None).augment == make_config().augment == {}
    assert config_hash(off) == config_hash(make_config())
    on = make_config(**{"augment.mixup": 0.2, "augment.shift": 2})
    assert list(on.augment.items()) == [("shift", 2), ("mixup", 0.2)]  # in the order in which they are done


def test_annealed_knobs_move_through_their_points_and_are_their_last_value_elsewhere():
    config = make_config("vae", epochs=9, **{"anneal.beta": [0, 1, 1, 1, 1], "anneal.noise": [0.4, 0.2]})
    assert [at(config, epoch).model.beta for epoch in range(1, 10)] == [0, 0.5, 1, 1, 1, 1, 1, 1, 1]
    assert [at(config, epoch).noise for epoch in (1, 5, 9, 12)] == pytest.approx([0.4, 0.3, 0.2, 0.2])
    assert (config.model.beta, config.noise) == (1, 0.2)
    faded = make_config(epochs=4, **{"anneal.shift": [2, 2, 2, 0], "anneal.mixup": [0, 1], "augment.flip": 0.5})
    assert faded.augment == {"flip": 0.5, "mixup": 1.0}
    assert [at(faded, epoch).augment.get("shift") for epoch in range(1, 5)] == [2, 2, 2, None]
    assert at(faded, 1).augment == {"shift": 2.0, "flip": 0.5}
    assert list(at(faded, 3).augment) == ["shift", "flip", "mixup"]
    rounded = make_config(epochs=5, **{"anneal.shift": [3, 0]})
    assert [at(rounded, epoch).augment.get("shift") for epoch in range(1, 6)] == [3, 2, 2, 1, None]
    assert at(make_config(epochs=1, **{"anneal.dropout": [0.1, 0.2]}), 1).dropout == 0.2
    assert make_config(dropout=0.2, **{"anneal.dropout": [0.1, 0.2]}) == make_config(**{"anneal.dropout": [0.1, 0.2]})
    assert make_config(**{"anneal.dropout": None}) == make_config()
    assert parse(asdict(config)) == config
    assert parse(asdict(faded)) == faded


def test_batch_norm_and_norm_are_one_knob():
    assert make_config(batch_norm=True) == make_config(norm="batch") == make_config(batch_norm=True, norm="batch")
    assert make_config(norm="layer").batch_norm is None
    assert make_config(batch_norm=False) != make_config(batch_norm=True)


def test_without_skip_connections_their_scale_makes_no_other_run():
    assert config_hash(make_config(skip_scale="none")) == config_hash(make_config())
    assert config_hash(make_config(skip=True, skip_scale="none")) != config_hash(make_config(skip=True))


def test_an_unresolvable_interpolation_is_one_line():
    assert "nothing" in refusal(order_seed="${nothing}")


def test_the_hash_names_the_run_not_how_it_is_carried_out():
    base = config_hash(make_config())
    assert config_hash(make_config(device="cpu", log_every=5, save_every=1.0)) == base
    assert config_hash(make_config(**{"data.dir": str(ROOT)})) == base
    assert config_hash(make_config(loss="cross_entropy")) == base  # the default, spelled out
    assert config_hash(make_config(until=0.5, figures=False)) == base
    assert base == "248f538a93fb"  # that of all runs so far: knobs that came later are not hashed where they are unset
    others = [
        {"gate": "relu"},
        {"skip": True},
        {"skip": True, "drop_path": 0.5},
        {"anneal.dropout": [0.1, 0.2]},
        {"anneal.dropout": [0.1, 0.1, 0.2]},
        {"dropout": 0.2},
    ]
    others += [{"ema": 0.9}, {"augment.flip": 0.5}, {"norm": "layer"}]
    others += [
        {"seed": 1},
        {"lr": 1e-2},
        {"dropout": 0.1},
        {"model.hidden": [300]},
        {"optim": "sgd"},
        {"eval_every": 2},
    ]
    assert len({base, *[config_hash(make_config(**other)) for other in others]}) == len(others) + 1


def test_conf_and_schema_have_the_same_knobs_and_defaults():
    conf = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text())
    given = {key: value for key, value in conf.items() if key not in ("defaults", "hydra", "anomaly", *ASIDE)}
    assert given.keys() == {f.name for f in fields(Knobs)}
    for f in fields(Knobs):
        if f.name != "order_seed":
            assert getattr(parse(given_with_groups(given)), f.name) == getattr(make_config(figures=True), f.name), (
                f.name
            )
    assert conf["anomaly"] == asdict(AnomalyConfig())
    assert conf["anneal"] == dict.fromkeys([*shipped()["ANNEALED"], *shipped()["AUGMENTATIONS"]])
    assert conf["augment"] == dict.fromkeys(shipped()["AUGMENTATIONS"])
    load_ideas()
    for group, kinds in GROUPS.items():
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            content = yaml.safe_load(file.read_text())
            entry = kinds[content["name"]]
            assert content.keys() == {f.name for f in fields(entry.config if group == "model" else entry)}, file


def given_with_groups(given):
    groups = {"model": {"name": "mlp"}, "data": {"name": "fashion"}, "optim": {"name": "adam"}}
    return {**given, **groups, "order_seed": 0}


def test_every_knob_is_explained():
    text = manual()
    for f in fields(Knobs):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{f.name}:")]
        assert "#" in line
    for file in (ROOT / "conf").rglob("*.yaml"):
        if file.parent.name in GROUPS:
            assert all("#" in line for line in file.read_text().splitlines()[1:] if "eps" not in line), file


def shipped():
    """The tables of the schema without what files of fmnist/ideas/ add to them."""
    return runpy.run_path(str(ROOT / "fmnist" / "config" / "schema.py"))


def test_help_names_all_that_a_knob_can_be():
    text, tables = manual(), shipped()
    for table in ("ACTIVATIONS", "NORMS", "CLASS_LOSSES", "AUGMENTATIONS"):
        assert len(tables[table]) > 1
        for name in tables[table]:
            assert re.search(rf"\b{name}\b", text), name
    for group, kinds in tables["GROUPS"].items():
        for name in kinds:
            assert re.search(rf"{group}={name}\b", text), name


def test_a_run_of_a_device_that_is_not_here_can_be_read(tmp_path):
    record = Record(replace(make_config(), device="cuda:99"), tmp_path)
    record.save()

    assert of_run(tmp_path) == make_config()


def test_a_run_is_read_back_from_its_record(tmp_path):
    config = make_config(dropout=0.5, **{"model.hidden": [7]})
    record = Record(config, tmp_path)
    record.save()

    assert of_run(tmp_path) == config
    check_directory(config, tmp_path)
    with pytest.raises(UserError, match=r"holds a run of another config \(dropout=0.5 there, 0.1 here\)"):
        check_directory(make_config(dropout=0.1, **{"model.hidden": [7]}), tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json is damaged"):
        of_run(tmp_path)
