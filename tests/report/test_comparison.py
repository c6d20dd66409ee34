"""What counts, and what can be compared with what."""

import json

import pytest
from report.made_up import change, comparison_of, sweep, write_run

from fmnist.config.schema import ANNEALED, AUGMENTATIONS
from fmnist.report.comparison import comparisons, find, read
from fmnist.report.leaderboard import Leaderboard, table
from fmnist.report.page import report


def test_runs_that_differ_in_seed_alone_are_one_configuration(lr):
    comparison = comparison_of(lr)
    assert comparison.varying == ["lr"]
    assert [c.label for c in comparison.configurations] == ["lr 0.01", "lr 0.001", "lr 0.1"]
    second = comparison.configurations[1].interval("objective")
    assert (second.n, second.mean) == (3, pytest.approx(0.83))
    assert comparison.configurations[1].interval("test/accuracy").mean == pytest.approx(0.82)
    assert comparison.shared["data.limit"] == 500
    assert "seed" not in comparison.shared


def test_validation_chooses_and_the_test_does_not(tmp_path):
    write_run(tmp_path / "a", 0.9, lr=1e-3, test=0.1)
    write_run(tmp_path / "b", 0.8, lr=1e-2, test=0.99)
    assert comparison_of(tmp_path).finished[0].knobs == {"lr": 1e-3}


def test_a_loss_is_better_when_it_is_lower_and_losses_of_two_kinds_are_not_compared(tmp_path):
    for number, (loss, rate, value) in enumerate([("mae", 1e-3, 90.0), ("mae", 1e-2, 70.0), ("mse", 1e-3, 9.0)]):
        write_run(tmp_path / str(number), value, model="autoencoder", loss=loss, lr=rate)
    write_run(tmp_path / "classifier", 0.8)
    found = {comparison.title: comparison for comparison in comparisons(read([tmp_path]))}
    assert set(found) == {"classifiers", "autoencoder, loss mae", "autoencoder, loss mse"}
    absolute = found["autoencoder, loss mae"]
    assert (absolute.judged_by, absolute.finished[0].knobs) == ("validation/loss", {"lr": 1e-2})


@pytest.mark.parametrize(("model", "good", "better"), [("mlp", 0.8, 0.99), ("autoencoder", 90.0, 9.0)])
def test_runs_without_validation_rows_are_ranked_apart(model, good, better, tmp_path):
    """Training metrics are better than validation metrics: nothing follows from which of them is larger."""
    write_run(tmp_path / "held out", good, model=model)
    write_run(tmp_path / "held out too", good, model=model, **{"data.split": 0.7})
    write_run(tmp_path / "not", better, model=model, **{"data.split": 1})
    write_run(tmp_path / "unfinished", better, "failed", model=model, lr=0.1, **{"data.split": 1})
    validation, training = comparisons(read([tmp_path]))
    metric = "accuracy" if model == "mlp" else "loss"
    assert (validation.judged_by, training.judged_by) == (f"validation/{metric}", f"train/{metric}")
    assert {run.directory.name for run in validation.runs} == {"held out", "held out too"}
    assert [run.directory.name for run in training.runs] == ["not"]
    assert training.title == f"{validation.title}, without validation rows"
    assert [len(c.others) for c in training.configurations] == [0, 1]
    for text in (table(Leaderboard(tmp_path).comparisons()), "\n".join(report([tmp_path], tmp_path / "report"))):
        assert f"validation {metric}" in text
        assert f"training {metric}" in text
    page = (tmp_path / "report" / "index.md").read_text(encoding="utf-8")
    assert f"are ranked by validation {metric}" in page
    assert f"are ranked by training {metric}" in page


def test_what_did_not_finish_is_listed_and_never_averaged(tmp_path):
    write_run(tmp_path / "0", 0.8, seed=0)
    write_run(tmp_path / "1", 0.9, seed=1)
    write_run(tmp_path / "2", 0.1, seed=2, status="failed", error="train/loss is nan | <b>stop</b>")
    write_run(tmp_path / "3", 0.1, seed=3, status="interrupted")
    write_run(tmp_path / "4", 0.1, seed=4, status="running")
    write_run(tmp_path / "5", 0.9, seed=1)  # once more
    write_run(tmp_path / "6", 0.1, seed=6)
    (tmp_path / "6" / "result.json").write_text('{"status": "done", ')
    write_run(tmp_path / "7", 0.1, seed=7)
    (tmp_path / "7" / "result.json").write_bytes(b"\xff\x00")
    write_run(tmp_path / "8", 0.1, seed=8)
    (tmp_path / "8" / "result.json").write_text("[]")
    (tmp_path / "9" / ".hydra").mkdir(parents=True)
    write_run(tmp_path / "10", float("nan"), seed=10)
    change(write_run(tmp_path / "11", 0.1, seed=11), objective=None)
    said = report([tmp_path], tmp_path / "report")
    assert said[0] == "2 finished runs of 12"
    (configuration,) = comparison_of(tmp_path).configurations
    assert configuration.interval("objective").mean == pytest.approx(0.85)
    page = (tmp_path / "report" / "index.md").read_text(encoding="utf-8")
    assert "2 finished runs of 12, 4 seconds of training" in page  # those of run 5 are not counted twice
    plain = page.replace("\\_", "_")
    for name, why in {
        "2": "failed | train/loss is nan \\| &lt;b&gt;stop&lt;/b&gt;", "3": "interrupted", "4": "running",
        "5": f"duplicate | the same run as {tmp_path}/1", "6": f"unreadable | {tmp_path}/6/result.json is damaged",
        "7": f"unreadable | {tmp_path}/7/result.json is damaged",
        "8": f"unreadable | {tmp_path}/8/result.json is damaged", "9": "unstarted | no result.json",
        "10": "failed | its objective is not defined", "11": "failed | its objective is not defined",
    }.items():  # fmt: skip
        assert f"| {tmp_path}/{name} | {why}" in plain


def test_a_choice_of_a_group_is_one_knob_and_none_and_lists_are_values(tmp_path):
    write_run(tmp_path / "0", 0.8, optim="adam", batch_size=None)
    write_run(tmp_path / "1", 0.7, optim="sgd", batch_size=32)
    comparison = comparison_of(tmp_path)
    assert comparison.varying == ["batch_size", "optim.name"]  # not the betas, not the momentum
    assert comparison.finished[0].label == "batch_size full, optim adam"


@pytest.mark.parametrize("name", [f"augment.{name}" for name in AUGMENTATIONS]
                         + [f"anneal.{name}" for name in [*ANNEALED, *AUGMENTATIONS]])  # fmt: skip
def test_a_run_that_moves_or_augments_something_is_another_configuration_than_one_that_does_not(name, tmp_path):
    most = 1 if name.endswith(("shift", "cutout")) else 0.5  # pixels are whole
    value = most if name.startswith("augment.") else [most, 0]
    given = {"model": "vae"} if name == "anneal.beta" else {"model": "mlp", "model.hidden": [20, 20], "skip": True}
    write_run(tmp_path / "0", 0.8, **given)
    write_run(tmp_path / "1", 0.7, **given, **{name: value})
    comparison = comparison_of(tmp_path)
    assert name in comparison.varying
    assert [(c.knobs[name], len(c.done)) for c in comparison.configurations if c.knobs[name] != value] == [(None, 1)]


def older(directory, *later):
    """Take from a record the knobs that came later."""
    config = json.loads((directory / "result.json").read_text(encoding="utf-8"))["config"]
    change(directory, config={name: value for name, value in config.items() if name not in later}, config_hash="old")


def test_batch_norm_is_one_knob_in_new_records_and_in_old_ones(tmp_path):
    for number, (norm, seed) in enumerate([(None, 0), (True, 0), (None, 1), (True, 1)]):
        write_run(tmp_path / str(number), 0.5, batch_norm=norm, seed=seed)
    older(tmp_path / "3", "norm")
    comparison = comparison_of(tmp_path)
    assert comparison.varying == ["norm"]
    assert {c.label: len(c.done) for c in comparison.configurations} == {"norm none": 2, "norm batch": 2}


def test_an_older_run_has_the_knobs_that_came_later_as_it_was_trained(tmp_path):
    for seed in range(3):
        write_run(tmp_path / str(seed), 0.5, seed=seed)
    older(tmp_path / "2", "skip_scale")
    assert {c.label: len(c.done) for c in comparison_of(tmp_path).configurations} == {
        "skip_scale depth": 2, "skip_scale none": 1,
    }  # fmt: skip


def test_runs_are_found_once_and_in_natural_order(lr):
    names = [path.name for path in find([lr, lr / "3", lr / ".." / lr.name])]
    assert names == [str(number) for number in range(9)]


def test_what_the_project_writes_beside_runs_is_no_run(tmp_path):
    sweep(tmp_path, [({"lr": lr}, [0.8, 0.9]) for lr in (1e-3, 1e-2)])
    runs = find([tmp_path])
    for folder in (".ipynb_checkpoints", "plots", "report"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".ipynb_checkpoints" / "result.json").write_text(
        (tmp_path / "0" / "result.json").read_text(encoding="utf-8")
    )
    (tmp_path / "plots" / "history.png").write_bytes(b"")
    Leaderboard(tmp_path).write()
    said = report([tmp_path], tmp_path / "report")
    again = report([tmp_path], tmp_path / "report")
    assert find([tmp_path]) == runs
    assert said == again
    assert sum(len(c.done) for c in Leaderboard(tmp_path).comparisons()[0].configurations) == len(runs)


def test_differences_are_of_shared_seeds_only(tmp_path):
    for seed, accuracy in {0: 0.5, 1: 0.6, 2: 0.7, 9: 0.99}.items():
        write_run(tmp_path / f"a{seed}", accuracy, seed=seed, lr=1e-3)
    for seed, accuracy in {0: 0.4, 1: 0.45, 2: 0.65, 8: 0.0}.items():
        write_run(tmp_path / f"b{seed}", accuracy, seed=seed, lr=1e-2)
    one, two = comparison_of(tmp_path).configurations
    difference, _ = two.minus(one, "objective")
    assert (difference.n, difference.mean) == (3, pytest.approx(-0.1))


def test_data_differ_by_their_bytes_and_not_by_their_place(tmp_path):
    def written(number, place, digest, seed=0):
        (tmp_path / place).mkdir(exist_ok=True)
        directory = write_run(
            tmp_path / "runs" / str(number), 0.5, seed=seed, data="idx", **{"data.dir": str(tmp_path / place)}
        )
        change(directory, data=digest)

    written(0, "old", "aaaaaaaa")
    written(1, "moved", "aaaaaaaa", seed=1)
    comparison = comparison_of(tmp_path / "runs")
    assert comparison.varying == []
    assert [len(configuration.done) for configuration in comparison.configurations] == [2]
    written(2, "old", "bbbbbbbb")
    comparison = comparison_of(tmp_path / "runs")
    assert comparison.varying == ["data.dir"]
    names = {configuration.knobs["data.dir"]: len(configuration.done) for configuration in comparison.configurations}
    assert names == {str(tmp_path / "old"): 2, f"{tmp_path / 'old'} (bbbbbb)": 1}
    assert [result.status for result in read([tmp_path / "runs"])] == ["done"] * 3  # none is a duplicate


def test_fashion_mnist_is_at_no_place(tmp_path):
    for number in range(2):
        change(write_run(tmp_path / str(number), 0.5, seed=number), data="cccccccc")
    assert comparison_of(tmp_path).shared["data.dir"] is None
