"""Values that nobody expects: each knob takes them or refuses them in one line, and what it takes can be recorded."""

import json
import math
from dataclasses import asdict, fields

import pytest
from helpers import make_config
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist import UserError
from fmnist.config.parse import config_hash, parse
from fmnist.config.schema import AUGMENTATIONS, GROUPS, DataConfig, Knobs, load_ideas


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([f.name for f in fields(Knobs)]),
                       st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
                       | st.lists(st.integers(), max_size=2), max_size=3))  # fmt: skip
def test_any_value_is_taken_or_refused_in_one_line(knobs):
    try:
        config = make_config(**{key: value for key, value in knobs.items() if "$" not in str(value)})
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right, a third is not
    else:
        assert parse(asdict(config)) == config  # what was taken survives being recorded


ODD = [
    None, True, 7, 7.0, -1, 1.5, 1e300, math.nan, math.inf, "x", "", [], [7], [7.0], [None], [1, None], [[1]], [True],
    ["x"], {}, {"x": 1},
]  # fmt: skip


def inner_knobs():
    """(model, optimiser, group, knob) of each knob that stands in a group."""
    load_ideas()
    named = [("autoencoder", "adam", "anomaly", "normal"), ("vae", "adam", "anneal", "beta")]
    named += [("mlp", "adam", "data", f.name) for f in fields(DataConfig)]
    named += [("mlp", "adam", group, name) for group in ("augment", "anneal") for name in AUGMENTATIONS]
    named += [(name, "adam", "model", f.name) for name, entry in GROUPS["model"].items() for f in fields(entry.config)]
    return named + [("mlp", name, "optim", f.name) for name, entry in GROUPS["optim"].items() for f in fields(entry)]


@pytest.mark.parametrize(("model", "optim", "group", "name"), inner_knobs())
def test_each_knob_of_a_group_takes_an_odd_value_or_refuses_it_in_one_line(model, optim, group, name):
    for value in ODD:
        try:
            config = make_config(model, optim=optim, **{f"{group}.{name}": value})
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right, a third is not
        else:
            read = parse(json.loads(json.dumps(asdict(config))))
            assert (read, config_hash(read)) == (config, config_hash(config))
