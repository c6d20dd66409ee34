"""fmnist.check: what it says of this machine, and of one that lacks something."""

import importlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import said
from training import quick_disk  # noqa: F401 - a fixture that serves each test

from fmnist import check
from fmnist.check import SECTIONS, Found, examine, main
from fmnist.program import packages
from fmnist.record import checkpoint
from fmnist.sources import fetch, mirrors, present
from fmnist.speed import described, native
from fmnist.speed.kernels import Kernels
from fmnist.train import engine


def test_a_machine_that_is_well_has_status_0_and_every_section(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fmnist.check.set_threads", lambda: None)
    status, printed, error = said(monkeypatch, capsys, main, "--json")
    found = json.loads(printed)
    assert (status, error, found["broken"]) == (0, "", [])
    assert found["facts"].keys() == SECTIONS.keys()
    test = found["facts"]["self-test"]
    assert test["data"] == "2,000 images of Fashion-MNIST"
    assert test["resumed from a checkpoint"] == "the same bits"
    assert float(test["test accuracy"].split()[0]) > 0.5
    assert found["facts"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert any("verified" in fact for fact in found["facts"]["data"].values())
    assert not any(tmp_path.iterdir())


def test_words_are_printed_as_they_are_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "SECTIONS", {"machine": check.machine, "self-test": None})
    status, printed, _ = said(monkeypatch, capsys, main, "--quick")
    assert status == 0
    assert printed.startswith("machine\n  system ")
    assert printed.endswith("all is well\n")
    assert "self-test" not in printed


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """Folders without Fashion-MNIST, where it is looked for."""
    monkeypatch.setattr(fetch, "DATA", tmp_path / "data")
    monkeypatch.setattr(mirrors, "SYSTEM", tmp_path / "system")
    present.whole.cache_clear()
    yield tmp_path
    present.whole.cache_clear()


def test_without_data_it_says_so_and_trains_on_a_made_up_set(no_data, monkeypatch):
    monkeypatch.setattr(check, "EPOCHS", 2)
    found = examine(["data", "self-test"])
    assert found.broken == []
    assert "fmnist.data` fetches it" in found.notes[0]
    assert found.facts["self-test"]["data"] == "2,000 images made up"
    assert found.facts["self-test"]["resumed from a checkpoint"] == "the same bits"
    assert not (no_data / "data").exists()


def test_data_with_other_bytes_are_broken(no_data):
    folder = no_data / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    present.made_up(folder, 20)
    (line,) = examine(["data"]).broken
    assert "SHA-256" in line
    assert "remove that file" in line


def test_runs_that_cannot_be_written_are_broken_and_a_cache_is_a_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").write_text("a file")  # as root, who may write everywhere, no folder is read-only
    monkeypatch.setattr("fmnist.check.sums.place", lambda: tmp_path / "outputs" / "sums.json")
    found = examine(["disk"])
    assert ["hydra.run.dir=DIR" in line for line in found.broken] == [True]
    assert ["computed at each start" in line for line in found.notes] == [True]


def test_a_disk_that_is_nearly_full_is_a_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))
    (line,) = examine(["disk"]).notes
    assert "make room" in line


def test_libraries_that_are_missing_are_a_note_with_the_command_that_brings_them(monkeypatch):
    monkeypatch.setattr(described, "LIBRARIES", ("_none",))
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    notes = []
    assert described.libraries(notes) == {"_none": "missing", "used here": "none"}
    (line,) = notes
    assert "slower" in line
    assert "apt-get install gcc" in line
    assert "pip install --editable" in line


def test_a_library_says_how_it_was_compiled(tmp_path):
    (file := tmp_path / "_native_avx2.so").write_bytes(b"\0\1GNU C17 12.2.0 -march=x86-64-v3 -O3\0\2")
    assert described.compiled_by(file) == "GNU C17 12.2.0 -march=x86-64-v3 -O3"
    file.write_bytes(b"GCC: (Debian 12.2.0-14) 12.2.0\0")
    assert described.compiled_by(file).startswith("GCC: (Debian 12.2.0-14) 12.2.0, asked for -O3 -fopenmp")
    assert "-march=x86-64-v3" in described.compiled_by(file)


@pytest.mark.parametrize(("chosen", "images", "wide"), [
    (Kernels(integers=True), "whole grey levels", "torch's own"),
    (Kernels(wide="medium", black=True, programs=True), "black pixels are skipped", "oneDNN"),
    (Kernels(), "torch's own", "torch's own"),
])  # fmt: skip
def test_what_is_said_of_kernels_is_what_is_chosen(monkeypatch, chosen, images, wide):
    monkeypatch.setattr(described, "choose", lambda *_: chosen)
    monkeypatch.setattr(described, "_stem", lambda library: "_native")
    found = described.kernels()
    assert found["products with images"].startswith(images)
    assert found["large products"].startswith(wide)
    assert found["other operations"] == ("_native, in programs" if chosen.programs else "torch's own")


def test_versions_that_differ_are_named_and_those_that_do_not_serve_are_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["torch>=1", "tqdm>=999", "no-such-package"]\n'
        '[project.optional-dependencies]\nhere = ["numpy"]\nnot = ["no-such-package>=2"]\n'
    )
    (tmp_path / "constraints.txt").write_text(
        "# tested\nnumpy==0.1 # old\nnot-here==1\ntqdm==1; python_version < '3'\n"
    )
    broken, notes = [], []
    found = packages.packages(broken, notes)
    assert [line.split()[1] for line in broken] == ["tqdm", "no-such-package"]
    assert "must be >=999" in broken[0]
    assert (found["extras that are here"], found["extras that are not"]) == ("here", "not")
    assert found["against constraints.txt"].startswith("other versions than tested: numpy ")
    assert "not-here" not in found["against constraints.txt"]
    assert len(notes) == 1


def test_a_gpu_is_described_and_one_that_torch_does_not_see_is_a_note(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    has = SimpleNamespace(name="H100", total_memory=80 << 30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: has)
    assert examine(["GPU"]).facts["GPU"]["cuda:0"] == "H100, 80.0 GiB, capability 9.0, CUDA graphs used"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (line,) = examine(["GPU"]).notes
    assert "does not see" in line


def test_tensorboard_that_cannot_be_imported_is_broken(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: 1 / 0)
    (line,) = examine(["TensorBoard"]).broken
    assert "pip install tensorboard" in line


def test_a_section_that_fails_is_broken_and_the_others_go_on(monkeypatch):
    monkeypatch.setitem(SECTIONS, "data", lambda found: 1 / 0)
    found = examine(["data", "machine"])
    assert ["ZeroDivisionError" in line for line in found.broken] == [True]
    assert "processor" in found.facts["machine"]


def test_a_step_that_is_wrong_is_seen(no_data, monkeypatch):
    """Autograd's gradient is another one when the labels are."""
    monkeypatch.setattr(check, "EPOCHS", 2)
    assemble = engine.assemble

    def other(configs, *rest, **options):
        stack = assemble(configs, *rest, **options)
        stack.dataset.train.labels.copy_(stack.dataset.train.labels.flip(0))
        return stack

    made = iter([assemble, other])
    monkeypatch.setattr("fmnist.train.restore.assemble", lambda configs: next(made)(configs))
    found = examine(["self-test"])
    assert ["gradient" in line for line in found.broken] == [True]


def test_a_run_that_does_not_resume_is_seen(no_data, monkeypatch):
    monkeypatch.setattr(check, "EPOCHS", 2)
    load = checkpoint.load

    def other(path: Path):
        return load(path) | ({"epoch": 7} if "parts" in str(path) else {})

    monkeypatch.setattr(checkpoint, "load", other)
    found = Found()
    check.self_test(found)
    assert ["is not the run at once" in line for line in found.broken] == [True]
