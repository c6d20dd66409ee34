"""What is shown of trained runs beside their curves: counts, pictures, the graph, histograms of layers."""

import io
import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import MODELS, SMALL, Crash, crash_in, events_of, make_config
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_curve

from fmnist.nn.step import evaluating
from fmnist.train import engine
from fmnist.train.restore import assemble
from fmnist.view import classifiers
from fmnist.view.calibration import reliability
from fmnist.view.graph import graph
from fmnist.view.histograms import histograms
from fmnist.view.show import last_layer
from fmnist.view.tally import BINS, THRESHOLDS, WORST, tally
from fmnist.view.watch import watch

KNOBS = {"data.limit": 1200, "epochs": 1, "model.hidden": [20, 12], "dropout": 0.2}


@pytest.fixture(scope="module")
def stack():
    """Two classifiers, trained for an epoch."""
    made = assemble([make_config(**KNOBS, seed=seed) for seed in (0, 1)])
    made.train_epoch(1)
    return made


@pytest.fixture(scope="module")
def seen(stack):
    return tally(stack, stack.dataset.test)


@pytest.fixture(scope="module")
def probability(stack):
    """What each run says of each test image, (2, rows, classes)."""
    with torch.no_grad(), evaluating(stack.model):
        return stack.model(stack.dataset.test.images.to(stack.dtype) / 255).double().softmax(-1)


def test_predictions_are_counted_as_scikit_learn_counts_them(stack, seen, probability):
    labels = stack.dataset.test.labels
    for run in range(2):
        expected = confusion_matrix(labels, probability[run].argmax(-1), labels=range(10))
        assert seen.confusion[run].tolist() == expected.tolist()
        assert seen.bins[run, :, 0].sum() == len(labels)
        assert seen.bins[run, :, 2].sum() == seen.confusion[run].diagonal().sum()
        confidence = probability[run].amax(-1)
        assert float(seen.bins[run, :, 1].sum()) == pytest.approx(float(confidence.sum()), abs=1e-4)
        assert seen.bins[run, :, 0].tolist() == torch.histc(confidence, BINS, 0, 1).tolist()


def test_a_probability_on_the_edge_of_two_bins_is_in_the_bin_of_evaluate():
    even = assemble([make_config(**KNOBS)])
    weights = even.model.state_dict()
    last = [name for name in weights if name.endswith("weight")][-1]
    weights[last].zero_()
    weights[last.replace("weight", "bias")].copy_(torch.tensor([0.0] * 5 + [-1e9] * 5))  # five classes of 1/5 each
    logits = torch.tensor([[0.0] * 5 + [-1e9] * 5]).expand(len(even.dataset.test.labels), -1)
    (expected,) = reliability(logits, even.dataset.test.labels)
    counted = tally(even, even.dataset.test).bins[0]
    assert counted[round(expected.low * BINS)].tolist() == pytest.approx(
        [expected.examples, expected.examples / 5, expected.examples * expected.accuracy]
    )


def test_precision_by_recall_is_that_of_scikit_learn_at_each_threshold(stack, seen, probability):
    labels = stack.dataset.test.labels
    positive, false, negative, missed = seen.precision_recall(1, 6)
    assert (positive + false + negative + missed == len(labels)).all()
    assert positive[0] + missed[0] == (labels == 6).sum()
    assert false[0] + negative[0] == (labels != 6).sum()
    rounded = (probability[1, :, 6] * (THRESHOLDS - 1)).floor()
    precision, recall, thresholds = precision_recall_curve(labels == 6, rounded)
    for p, r, threshold in list(zip(precision, recall, thresholds, strict=False))[1:]:
        at = int(threshold)
        assert int(positive[at]) / int(positive[at] + false[at]) == pytest.approx(p)
        assert int(positive[at]) / int(positive[at] + missed[at]) == pytest.approx(r)


def test_the_surest_mistakes_come_first(stack, seen, probability):
    labels = stack.dataset.test.labels
    confidence, taken = probability[0].max(-1)
    wrong = confidence.masked_fill(taken == labels, -1.0)
    assert seen.confidence[0].tolist() == pytest.approx(wrong.sort(descending=True).values[:WORST].tolist(), abs=1e-6)
    for row, c in zip(seen.worst[0].tolist(), seen.taken[0].tolist(), strict=True):
        assert taken[row] == c != labels[row]


@pytest.mark.parametrize("name", ["mistakes", "confusion", "calibration", "weights"])
def test_a_picture_is_a_small_png_that_fits_a_card(name, stack, seen):
    draw = getattr(classifiers, name)
    one, other = (draw(stack, run, *([seen] if name != "weights" else [])) for run in (0, 1))
    assert one != other
    picture = Image.open(io.BytesIO(one))
    assert picture.width <= classifiers.WIDTH
    assert len(one) < 60_000
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 8  # something is drawn


def test_pictures_have_room_for_long_names_and_for_no_mistakes(stack, seen, monkeypatch):
    names = (*stack.dataset.names[:9], "<b>\n# a very long name of a class that does not fit")
    with monkeypatch.context() as patch:
        patch.setattr(stack, "dataset", replace(stack.dataset, names=names))
        assert classifiers.confusion(stack, 0, seen)
        assert classifiers.mistakes(stack, 0, seen)
        assert classifiers.mistakes(stack, 0, replace(seen, worst=torch.full_like(seen.worst, -1)))


@pytest.mark.parametrize(("knobs", "layers"), [
    (KNOBS, ["01_Linear", "02_relu", "03_Dropout", "04_Linear", "05_relu", "06_Dropout", "07_Linear"]),
    ({"model": "linear"}, ["01_Linear"]),
    ({"model": "autoencoder", "model.hidden": [8], "noise": 0.1},
     ["corrupt/01_Corrupt", "encoder/01_Linear", "encoder/02_relu", "decoder/01_Linear"]),
    ({"model": "deep", "model.depth": 2, "model.width": 4, "skip": True},
     ["01_Linear", "02_relu", "03_Residual/01_Linear", "03_Residual/02_relu", "03_Residual/sum", "04_Linear"]),
    ({"model.hidden": [8], "gate": "sigmoid"},
     ["01_Gated/01_Linear", "01_Gated/02_relu", "01_Gated/gate/01_Linear", "01_Gated/gate/02_sigmoid",
      "01_Gated/product", "02_Linear"]),
])  # fmt: skip
def test_a_graph_has_all_layers_in_order(knobs, layers):
    model = assemble([make_config(**{**knobs, "data.limit": 20, "batch_size": 8})]).model
    nodes = graph(model, 784)
    assert [name for name, *_ in nodes] == ["images", *layers, "output"]
    known = set()
    for name, _, before, _ in nodes:
        assert set(before) <= known
        known.add(name)
    if "skip" in knobs:
        inputs = {name: before for name, _, before, _ in nodes}
        assert inputs["03_Residual/sum"] == ["02_relu", "03_Residual/02_relu"]
    if "gate" in knobs:
        inputs = {name: before for name, _, before, _ in nodes}
        assert inputs["01_Gated/gate/01_Linear"] == ["images"]
        assert inputs["01_Gated/product"] == ["01_Gated/02_relu", "01_Gated/gate/02_sigmoid"]


def test_the_projector_has_what_goes_into_the_last_layer(stack, probability):
    points = last_layer(stack, stack.dataset.test)
    weight, bias = list(stack.model.parameters())[-2:]
    logits = points @ weight.mT + bias[:, None]
    torch.testing.assert_close(logits.double().softmax(-1), probability, atol=1e-5, rtol=1e-4)


def test_histograms_count_each_layer_and_leave_the_training_alone(stack):
    before = [value.clone() for value in stack.model.state_dict().values()]
    first, second = histograms(stack)
    assert all(torch.equal(a, b) for a, b in zip(before, stack.model.state_dict().values(), strict=True))
    tags = ["01_784_to_20", "02_20_to_12", "03_12_to_10"]
    tags = [f"{part}/{tag}" for part in ("gradients", "weights") for tag in tags]
    assert [*first["histograms"]] == ["activations/01_of_20", "activations/02_of_12", *tags]
    low, high, counts = first["histograms"]["weights/02_20_to_12"]
    weight = [module for module in stack.model.modules() if hasattr(module, "weight")][1].weight[0].detach()
    assert sum(counts) == weight.numel()
    assert (low, high) == pytest.approx((float(weight.min()), float(weight.max())))
    assert first["histograms"] != second["histograms"]
    assert all(0 <= share <= 1 for share in first["by layer"]["share of dead units by layer"])
    with torch.no_grad():
        layer = next(module for module in stack.model.modules() if hasattr(module, "bias"))
        layer.bias[0, :5] = -1e6  # no image wakes these units
    try:
        assert histograms(stack)[0]["by layer"]["share of dead units by layer"][0] >= 5 / 20
    finally:
        for value, kept in zip(stack.model.state_dict().values(), before, strict=True):
            value.copy_(kept)


def test_a_gated_layer_is_watched_behind_its_gate():
    knobs = {**KNOBS, "gate": "sigmoid", "model.activation": "tanh"}
    gated = assemble([make_config(**knobs)])
    (found,) = histograms(gated)
    assert [*found["histograms"]][:2] == ["activations/01_of_20", "activations/02_of_12"]
    assert [tag for tag in found["histograms"] if tag.startswith("weights")] == [
        f"weights/{tag}" for tag in ("01_784_to_20", "02_784_to_20", "03_20_to_12", "04_20_to_12", "05_12_to_10")
    ]
    assert found["by layer"]["share of dead units by layer"] == [0, 0]
    with torch.no_grad():
        gated.model[0].gate[0].bias[0, :5] = -1e6  # these gates are shut for all images
    assert histograms(gated)[0]["by layer"]["share of dead units by layer"] == [5 / 20, 0]
    gated.common.watch = "inputs"
    given = []
    gated.model[2].inner[1].register_forward_pre_hook(lambda layer, x: given.append(x[0]))  # the last tanh
    assert watch(gated)["input/0_50"][0] == pytest.approx(float(given[0][0, :, 0].quantile(0.5)))


def layers_of(directory):
    events = events_of(directory, "train")
    return {tag: [(event.step, event.histogram_value.bucket) for event in events.Histograms(tag)]
            for tag in events.Tags()["histograms"]}  # fmt: skip


def test_histograms_of_a_run_that_goes_on_are_those_of_one_that_was_not_stopped(tmp_path, monkeypatch):
    knobs = {**MODELS["mlp"], **SMALL, "data.limit": 200, "histograms": True}
    engine.fit([make_config(**knobs)], [tmp_path / "straight"])
    with monkeypatch.context() as patch:
        crash_in(patch, 3)
        with pytest.raises(Crash):
            engine.fit([make_config(**knobs)], [tmp_path / "stopped"])
    file = tmp_path / "stopped" / "layers.jsonl"
    line = file.read_text(encoding="utf-8").splitlines()[0]
    later = json.dumps(json.loads(line) | {"epoch": 3})
    file.write_text(f"{file.read_text(encoding='utf-8')}{later}\n[1]\n" + '{"epoch": 1, "hist', encoding="utf-8")
    engine.fit([make_config(**knobs)], [tmp_path / "stopped"])
    assert layers_of(tmp_path / "stopped") == layers_of(tmp_path / "straight")
    assert [step for step, _ in layers_of(tmp_path / "stopped")["share of dead units by layer"]] == [1, 2, 3]


def test_a_run_that_diverged_in_its_weights_has_pictures_all_the_same(stack):
    broken = assemble([make_config(**KNOBS)])
    broken.model.state_dict()["0.weight"].fill_(math.nan)
    counted = tally(broken, broken.dataset.test)
    assert classifiers.calibration(broken, 0, counted)
    assert classifiers.weights(broken, 0)
    assert not [tag for tag in histograms(broken)[0]["histograms"] if tag == "weights/01_784_to_20"]
