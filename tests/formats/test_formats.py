"""Networks for others: what the rules of ONNX know, and scripts as text."""

import ast

import pytest
from torch import nn

from fmnist.formats import graph
from fmnist.formats.script import script


def test_both_ways_to_write_onnx_have_the_same_answers_in_the_same_shapes():
    """The rules refuse what they do not know, and no more."""
    known = nn.Sequential(nn.Linear(4, 3), nn.SiLU())
    assert graph.rule(known, graph.Nodes(known), "images").startswith("mul")
    with pytest.raises(graph.NoRule):
        graph.rule(nn.Softplus(), graph.Nodes(known), "images")


def test_names_of_classes_stay_names_in_the_script():
    names = ('"""', "\n", "'", "\\")
    tree = ast.parse(script(nn.Sequential(nn.Linear(4, 4)), "It.", names, "model.safetensors", "float32"))
    (value,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "CLASSES"]
    assert ast.literal_eval(value) == names
