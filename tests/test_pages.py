"""docs/pages.py, the parts of the site that are made from the sources: they are whole, and what they show is there."""

import ast
import re

import command_pages
import pages
import pytest

from fmnist import ROOT
from fmnist.config import schema

DOCS = ROOT / "docs"
ASKING = sorted(path for path in DOCS.rglob("*.md") if pages.MADE.search(path.read_text(encoding="utf-8")))
LAYERS = sorted((DOCS / "layers").glob("*.md"))


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_all_parts_of_a_page_are_made(path):
    text = pages.rendered(path.read_text(encoding="utf-8"))
    assert "{{ " not in text
    assert text.count("```") % 2 == 0


@pytest.mark.parametrize("line", [
    "{{ code fmnist/nn/layers.py Nonsense }}", "{{ code fmnist/nn/layers.py Linear.backward }}",
    "{{ test tests/nn/test_layers.py test_that_is_gone }}", "{{ nonsense }}",
])  # fmt: skip
def test_a_part_that_is_gone_is_an_error(line):
    with pytest.raises(KeyError):
        pages.rendered(f"text\n{line}\ntext")


def test_code_is_that_of_the_file():
    text = pages.rendered("{{ code fmnist/nn/layers.py Linear.forward }}")
    assert "```python title=" in text
    assert "    return (product + self.bias[..., None]).mT\n```" in text
    assert "TWINS" in pages.rendered("{{ test tests/nn/test_layers.py test_activation_is_its_torch_twin }}")


@pytest.mark.parametrize("module", ["layers", "losses", "optim"])
def test_each_layer_loss_and_optimizer_is_on_a_page(module):
    """A new one needs a formula and a test on a page in docs/layers/; a table of names says what belongs to it."""
    shown = set(re.findall(rf"\{{\{{ code fmnist/nn/{module}.py (\w+)", "".join(p.read_text("utf-8") for p in LAYERS)))
    tree = ast.parse((ROOT / "fmnist" / "nn" / f"{module}.py").read_text(encoding="utf-8"))
    public = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    aside = {"Criterion", "Classification", "Reconstruction", "exact", "ceiling"}  # they measure by what is shown
    assert {name for name in public if not name.startswith("_")} - aside <= shown


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_the_lines_to_try_hold(path):
    blocks = re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert path.stem == "index" or blocks
    for block in blocks:
        assert "assert" in block
        exec(compile(block, str(path), "exec"), {})


def test_the_layer_of_the_tutorial_is_that_of_the_page_on_adding():
    blocks = [re.findall(r"^```python\n(.*?)^```$", (DOCS / name).read_text(encoding="utf-8"), re.M | re.S)
              for name in ("tutorial.md", "extending.md")]  # fmt: skip
    assert set(blocks[0]) < set(blocks[1])


def rows(text):
    """The rows of a table by their first cell."""
    cells = [re.split(r"(?<!\\) ?\| ?", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {re.findall(r"`([^`]+)`", row[0])[0]: row for row in cells}


def test_every_knob_is_in_the_table_with_what_the_schema_says():
    table = rows(pages.knobs())
    names = {*vars(schema.Knobs()), "anomaly.normal", "dry_run"} - {"augment", "anneal"}
    assert {name for name in table if not name.startswith(("augment.", "anneal."))} == names
    assert {name for name in table if name.startswith("augment.")} >= {
        f"augment.{name}" for name in schema.AUGMENTATIONS
    }
    assert table["dropout"][1:3] == ["`null`", "number in [0, 1)"]
    assert table["dropout"][0].endswith(r"\*")  # runs of a stack may differ in it
    assert not table["epochs"][0].endswith(r"\*")
    assert table["anneal.shift"][2] == "list: whole number in [0, ∞)"
    assert table["batch_size"][2] == "whole number in [1, ∞)"
    assert table["schedule"][2] == "`constant`, `cosine`, `one_cycle`"
    assert all(row[3] for row in table.values())  # each says what it does


@pytest.fixture(scope="module")
def shown_knobs():
    """The rows of the table of knobs, by name."""
    return rows(pages.knobs())


@pytest.mark.few(4)
@pytest.mark.parametrize(("knob", "models"), [
    ("lr", "all"), ("select", "all"), ("dropout", "mlp, deep, autoencoder, vae"), ("noise", "all"),
    ("label_smoothing", "linear, mlp, deep"), ("augment.mixup", "linear, mlp, deep"),
    ("anomaly.normal", "autoencoder, vae"), ("anneal.dropout", "mlp, deep, autoencoder, vae"), ("anneal.beta", "vae"),
    ("drop_path", "mlp, deep, autoencoder, vae"), ("anneal.drop_path", "mlp, deep, autoencoder, vae"),
    ("anneal.mixup", "linear, mlp, deep"),
])  # fmt: skip
def test_the_table_says_for_which_models_a_knob_is(knob, models, shown_knobs):
    shown = shown_knobs[knob][-1].split(", ")
    assert [
        model for model in shown if model in ("all", "linear", "mlp", "deep", "autoencoder", "vae")
    ] == models.split(", ")


def test_every_choice_has_a_table_of_its_own_knobs():
    text = pages.groups()
    for group in schema.GROUPS:
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            section = text.split(f"### `{group}={file.stem}`")[1].split("###")[0]
            for name, _, meaning in pages.commented(file.read_text(encoding="utf-8")):
                assert name == "name" or f"| `{group}.{name}`" in section
                assert meaning or name in ("name", "eps"), f"{file}: {name}"


def test_every_command_shows_its_help():
    text = pages.commands()
    for name in command_pages.command_names():
        section = text.split(f"## `python -m fmnist.{name}`")[1].split("\n## ")[0]
        assert "usage: " in section
    assert {"evaluate", "report", "data", "extend"} <= set(command_pages.command_names())
    assert "### `python -m fmnist.data convert`" in text


def test_every_target_is_in_the_table_of_make():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    assert {f"make {name}" for name in phony} == set(rows(pages.targets()))


def test_experiments_and_studies_are_all_there_and_say_what_they_are():
    for made, folder in ((pages.experiments(), "conf/experiment"), (pages.studies(), "sweep/study")):
        found = rows(made)
        assert len(found) == len(list((ROOT / folder).glob("*.yaml"))) > 10
        assert all(len(row[1]) > 20 for row in found.values())
