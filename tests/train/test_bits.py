"""Fresh processes give the same bits, whatever else the machine is doing; check_bits.py does more of it."""

import importlib.util
import json
from pathlib import Path

import pytest
from helpers import make_config

from fmnist.train import engine

specification = importlib.util.spec_from_file_location("check_bits", Path(__file__).with_name("check_bits.py"))
check_bits = importlib.util.module_from_spec(specification)
specification.loader.exec_module(check_bits)


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1])
def test_two_fresh_processes_give_the_same_bits_and_say_by_which_kernels(number, tmp_path):
    assert check_bits.pair(number, tmp_path) == []
    result = json.loads((tmp_path / f"{number}-busy" / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "done"
    assert result["kernels"].keys() >= {"wide", "integers"}


def test_runs_that_differ_are_told_apart(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        engine.fit([make_config(seed=seed, **{"data.limit": 100, "epochs": 1, "model.hidden": [5]})], [tmp_path / name])
    found = check_bits.differences(tmp_path / "a", tmp_path / "b")
    assert {"metrics.jsonl", "metrics", "config_hash"} < set(found)
    assert any("weight" in name for name in found)
