"""fmnist.export: files for others answer as the run does, for all models and switches, on all 10,000 test images."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import onnxruntime
import pytest
import torch
from helpers import make_config, refuses, said
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training import data_kept, quick_disk  # noqa: F401 - fixtures that serve each test

from fmnist.config import schema
from fmnist.config.parse import config_hash
from fmnist.data.dataset import as_input
from fmnist.export import WRITERS, Unlike, check, export, main
from fmnist.nn.layers import ACTIVATIONS, Elementwise
from fmnist.record import checkpoint
from fmnist.record.result import write_result
from fmnist.sources.fetch import read_ahead
from fmnist.train import engine

ACTIVATION, SMALL, NARROW = "model.activation", {"data.limit": 200}, {"model.hidden": [40, 20]}
AE = {"model": "autoencoder", **NARROW}
CASES = {
    "linear": {"model": "linear"},
    "mlp": {**NARROW, "norm": "batch", "dropout": 0.5, "mask": 0.2},
    "mlp1": {"model.hidden": [200], ACTIVATION: "leaky_relu"},
    "mlp2": {"model.hidden": [300, 100], ACTIVATION: "gelu", "norm": "layer"},
    "projections": {
        **NARROW,
        ACTIVATION: "identity",
        "skip": True,
        "norm": "batch",
        "dropout": 0.1,
        "dropout_rescale": False,
    },
    "deep": {"model": "deep", ACTIVATION: "silu", "norm": "batch", "skip": True, "dropout": 0.1},
    "deep, layer": {"model": "deep", "model.depth": 5, ACTIVATION: "sigmoid", "norm": "layer", "skip": True},
    "autoencoder": {**AE, ACTIVATION: "silu", "model.code": "sigmoid", "norm": "batch", "noise": 0.2},
    "autoencoder, layer": {**AE, ACTIVATION: "tanh", "norm": "layer"},
    "gated": {**NARROW, ACTIVATION: "identity", "gate": "sigmoid", "norm": "batch", "dropout": 0.1},
    "gated autoencoder": {**AE, "gate": "gelu", "norm": "layer", "skip": True, "drop_path": 0.3},
    "vae": {"model": "vae", **NARROW},
    "vamp": {"model": "vamp", **NARROW, "gate": "sigmoid", "noise": 0.1},
    "two levels": {"model": "two_levels", **NARROW, "model.prior": "vamp", "model.pseudo_inputs": 5, "mask": 0.1},
    "vae, batch": {"model": "vae", **NARROW, ACTIVATION: "gelu", "norm": "batch", "skip": True, "model.latent": 2},
}
FRESH = """
import runpy, sys
sys.modules["fmnist"] = None  # cannot be imported
import torch
from safetensors.torch import load_file, save_file
images = load_file("images.safetensors")["images"]
for folder in sys.argv[1:]:
    with torch.no_grad():
        found = runpy.run_path(f"{folder}/load.py")["model"](images)
    found = found if isinstance(found, tuple) else (found, found.softmax(-1))
    save_file({str(place): value.contiguous() for place, value in enumerate(found)}, f"{folder}/found.safetensors")
"""


def leave(directory, **knobs):
    """A run that was never trained: with random weights, and statistics that batch normalisation would notice."""
    config = make_config(**knobs)
    stack, generator = engine.assemble([config]), torch.Generator().manual_seed(0)
    weights = stack.weights(0)
    for name, value in weights.items():
        drawn = torch.rand(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        if "running" in name:
            weights[name] = value + drawn
        elif value.dim() == 1 and value.is_floating_point():
            weights[name] = 0.5 * value + 0.3 * drawn
    stack.load_weights(0, weights)
    directory.mkdir(exist_ok=True)
    checkpoint.save(directory / "last.safetensors", {"weights": weights})
    write_result(directory, {
        "status": "done", "epoch": 1, "config": asdict(config), "config_hash": config_hash(config),
        "metrics": {"test/loss": 2.5},
    })  # fmt: skip
    return stack


@torch.no_grad()
def own(stack):
    """What the run's own layers answer to its test images, by name."""
    model, x = stack.model.eval(), as_input(stack.dataset.test.images, stack.dtype)
    if stack.common.model.name in ("vae", "vamp"):
        mean, log_variance = model.encoder(x).chunk(2, -1)
        found = {"mean": mean, "log_variance": log_variance, "reconstruction": model.decode(mean).sigmoid()}
    elif stack.common.model.name == "two_levels":
        mean2, _ = model.q2(x).chunk(2, -1)
        code = torch.cat([mean2, model.q1(x, mean2).chunk(2, -1)[0]], -1)
        found = {"code": code, "reconstruction": model.decode(code).sigmoid()}
    elif stack.common.model.name == "autoencoder":
        code = model.encoder(x)
        found = {"code": code, "reconstruction": model.decode(code).sigmoid()}
    else:
        logits = model(x)
        found = {"logits": logits, "probabilities": logits.softmax(-1)}
    return {name: value[0] for name, value in found.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of a run for each case, and their stacks."""
    read_ahead("fashion", None, keep=True)
    folder = tmp_path_factory.mktemp("runs")
    return {name: (folder / str(number), leave(folder / str(number), **knobs))
            for number, (name, knobs) in enumerate(CASES.items())}  # fmt: skip


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert len(value) == 10_000
        assert found[name].shape == value.shape
        assert (found[name] - value).abs().max() <= 1e-5, name


def test_the_cases_have_every_model_activation_and_norm():
    configs = [make_config(**knobs) for knobs in CASES.values()]
    assert {config.model.name for config in configs} == schema.MODELS.keys() - {"hog"}  # see tests/ideas/test_hog.py
    assert {getattr(config.model, "activation", "relu") for config in configs} == {*schema.ACTIVATIONS}
    assert {config.norm for config in configs} == {None, *schema.NORMS}


@pytest.mark.few(4)
@pytest.mark.parametrize("name", CASES)
def test_onnx_answers_as_the_run_does(runs, name):
    directory, stack = runs[name]
    (file,) = export(directory)["files"]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    answered = session.run(
        None, {"images": as_input(stack.dataset.test.images, torch.float32).view(-1, 28, 28).numpy()}
    )
    found = {
        output.name: torch.from_numpy(value) for output, value in zip(session.get_outputs(), answered, strict=True)
    }
    if "reconstruction" in found:
        assert found["reconstruction"].shape == (10_000, 28, 28)
    assert_equal({key: value.flatten(1) for key, value in found.items()}, own(stack))
    texts = session.get_modelmeta().custom_metadata_map
    assert json.loads(texts["image_size"]) == [28, 28]
    assert json.loads(texts["class_names"])[9] == "Ankle boot"


def test_a_network_that_torch_nn_lacks_has_no_script(runs, tmp_path):
    directory, _ = runs["two levels"]
    refuses(lambda: export(directory, "torch", tmp_path), "torch.nn has no layer for TwoLevels", "--to onnx")
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_the_scripts_answer_as_the_runs_do_where_fmnist_cannot_be_imported(runs, tmp_path):
    runs = {name: run for name, run in runs.items() if name != "two levels"}
    folders = [tmp_path / str(number) for number in range(len(runs))]
    for (directory, stack), folder in zip(runs.values(), folders, strict=True):
        export(directory, "torch", folder)
        images = as_input(stack.dataset.test.images, torch.float32)
    save_file({"images": images}, tmp_path / "images.safetensors")
    command = [sys.executable, "-I", "-c", FRESH, *map(str, folders)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for (_, stack), folder in zip(runs.values(), folders, strict=True):
        found, expected = load_file(folder / "found.safetensors"), own(stack)
        assert_equal(dict(zip(expected, found.values(), strict=True)), expected)


@pytest.mark.parametrize("name", ["mlp", "deep", "vae"])
def test_safetensors_have_the_weights_and_what_one_must_know(runs, name):
    directory, stack = runs[name]
    told = export(directory, "safetensors")
    (file,) = told["files"]
    with safe_open(file, "pt") as opened:
        texts = opened.metadata()
    assert json.loads(texts["config"]) == asdict(stack.common)
    assert json.loads(texts["class_names"]) == list(stack.dataset.names)
    assert json.loads(texts["metrics"]) == {"test/loss": 2.5}
    torch.testing.assert_close(load_file(file), stack.weights(0), rtol=0, atol=0)
    assert max(told["differences"].values()) <= 1e-5


def test_equal_lines_of_a_deep_network_are_one_line(runs, tmp_path):
    export(runs["deep"][0], "torch", tmp_path)
    text = (tmp_path / "load.py").read_text(encoding="utf-8")
    assert "Linear(32, 32), nn.BatchNorm1d(32), nn.SiLU(), nn.Dropout(0.1))) for _ in range(19)]" in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_trained_run_is_exported_by_the_command(tmp_path, monkeypatch, capsys):
    config = make_config(**SMALL, **{"model.hidden": [8], "epochs": 2, "norm": "batch", "ema": 0.9})
    (outcome,) = engine.fit([config], [tmp_path])
    status, printed, error = said(monkeypatch, capsys, main, tmp_path, "--to", "torch")
    assert (status, error) == (0, "")
    assert "nn.Linear(784, 8), nn.BatchNorm1d(8), nn.ReLU()" in printed
    status, printed, error = said(monkeypatch, capsys, main, tmp_path, "--json", "--out", tmp_path / "a" / "mine.onnx")
    found = json.loads(printed)
    assert found["files"] == {str(tmp_path / "a" / "mine.onnx"): (tmp_path / "a" / "mine.onnx").stat().st_size}
    assert found["metrics"]["test/accuracy"] == outcome.metrics["test/accuracy"]
    assert found["images"] == 200
    average, last = (export(tmp_path, "safetensors", tmp_path / which, which)["files"] for which in ("average", "last"))
    assert not torch.equal(*(load_file(next(iter(files)))["0.weight"] for files in (average, last)))


@pytest.mark.parametrize(("to", "dtype"), [("onnx", torch.float32), ("torch", torch.float64)])
def test_a_run_in_float64_is_written_in_float32_as_onnx_alone(tmp_path, to, dtype):
    stack = leave(tmp_path, **SMALL, **{"model.hidden": [8], "precision": "float64", "norm": "batch"})
    told = export(tmp_path, to, tmp_path / "out")
    assert any("computes in float32" in remark for remark in told["remarks"]) == (to == "onnx")
    assert max(told["differences"].values()) <= (1e-5 if to == "onnx" else 1e-12)
    if to == "torch":
        assert load_file(tmp_path / "out" / "model.safetensors")["0.weight"].dtype == dtype == stack.dtype


def test_in_what_a_run_is_measured_otherwise_is_said(tmp_path):
    leave(tmp_path / "a", **SMALL, model="linear", precision="bfloat16", loss="report_rows")
    leave(tmp_path / "b", **SMALL, model="vae", mask=0.5)
    first, second = (" ".join(export(tmp_path / name, "torch")["remarks"]) for name in "ab")
    assert "products in bfloat16" in first
    assert "softmax over images" in first
    assert "images that are changed" in second
    assert "decoded from the mean" in second


@pytest.mark.parametrize("to", WRITERS)
def test_what_answers_otherwise_is_not_kept(tmp_path, monkeypatch, capsys, to):
    leave(tmp_path, **SMALL, model="linear")
    write = WRITERS[to]

    def wrong(run, folder):
        ask = write(run, folder)
        return lambda images: {name: value + 1e-3 for name, value in ask(images).items()}

    monkeypatch.setitem(WRITERS, to, wrong)
    status, printed, error = said(monkeypatch, capsys, main, tmp_path, "--to", to)
    assert (status, printed, len(error.splitlines())) == (1, "", 1)
    assert "logits by 0.001, at most" in error
    assert "nothing is kept" in error
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("wrong", [torch.tensor([[1.0, torch.nan]]), torch.tensor([[1.0]])])
def test_no_number_and_another_shape_are_no_small_differences(wrong):
    with pytest.raises(Unlike):
        check({"logits": wrong}, {"logits": torch.tensor([[1.0, 2.0]])})


def test_large_logits_may_differ_as_their_last_digits_do():
    own = {"logits": torch.tensor([[40.0, 2.0]])}
    assert check({"logits": torch.tensor([[40.0003, 2.0]])}, own)["logits"] == pytest.approx(3e-4, rel=0.1)
    with pytest.raises(Unlike):
        check({"logits": torch.tensor([[40.0005, 2.0]])}, own)


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_library_that_is_missing_is_one_line_that_names_the_extra(tmp_path, monkeypatch, library):
    leave(tmp_path, **SMALL, model="linear")
    monkeypatch.setitem(sys.modules, library, None)
    refuses(lambda: export(tmp_path), library, "pip install -e '.[export]'")
    assert not (tmp_path / "export").exists()


@pytest.fixture
def sine(monkeypatch):
    """An activation that torch.nn has not."""
    monkeypatch.setattr(schema, "ACTIVATIONS", schema.ACTIVATIONS)
    schema.ACTIVATIONS.append("sine")
    monkeypatch.setitem(ACTIVATIONS, "sine", Elementwise(torch.sin))
    yield {"model.hidden": [8], ACTIVATION: "sine"}
    schema.ACTIVATIONS.remove("sine")


def test_an_idea_that_torch_lacks_is_no_script_but_safetensors(tmp_path, sine):
    leave(tmp_path, **SMALL, **sine)
    refuses(lambda: export(tmp_path, "torch"), "torch.nn has no layer for Activation(sine)", "--to onnx")
    assert export(tmp_path, "safetensors")["differences"]["logits"] <= 1e-5


@pytest.mark.long
def test_an_idea_that_no_rule_writes_is_written_by_torchs_exporter(tmp_path, sine):
    leave(tmp_path, **SMALL, **sine)
    told = export(tmp_path)
    (file,) = told["files"]
    assert told["differences"]["logits"] <= 1e-5
    assert b"site-packages" not in Path(file).read_bytes()
