"""Dicts of tensors as bytes: what comes back, that equal dicts give equal bytes, and that no changed byte is taken."""

import io
import json
import os
import resource
import subprocess
import sys
from math import inf, nan

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import strict

from fmnist import ROOT
from fmnist.convert import same
from fmnist.program.packing import NO_SUM, _summed, packed, unpacked

DTYPES = [torch.uint8, torch.bool, torch.int32, torch.int64,
          torch.float16, torch.bfloat16, torch.float32, torch.float64]  # fmt: skip
WHOLE = torch.arange(24.0)


def header(content):
    return strict(content[8 : 8 + int.from_bytes(content[:8], "little")])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (5,), (2, 3, 4)], ids=str)
def test_tensors_of_every_kind_come_back(dtype, shape):
    tensor = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 200).to(dtype)
    assert same(unpacked(packed({"a": [tensor]})), {"a": [tensor]})


TENSORS = {
    "a generator's state": torch.Generator().manual_seed(3).get_state(),
    "not contiguous": WHOLE.view(4, 6).mT, "every second": WHOLE[::2], "of a larger one": WHOLE[3:5],
    "expanded": torch.ones(1).expand(3, 2), "a parameter": torch.nn.Parameter(WHOLE),
    "nan and infinity": torch.tensor([nan, inf, -inf, -0.0]),
}  # fmt: skip


def test_tensors_that_share_memory_come_back_each_for_itself():
    found = unpacked(packed(TENSORS))
    assert same(found, {name: tensor.detach() for name, tensor in TENSORS.items()})
    found["of a larger one"] += 1  # they can be written to
    assert torch.equal(found["a parameter"], WHOLE)


KEYS = st.text().filter(lambda key: "/" not in key and key[:1] != "$")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)


@given(state=PLAIN)
def test_plain_values_come_back_and_the_text_is_json_by_the_standard(state):
    content = packed({"state": state})
    assert same(unpacked(content), {"state": state})
    strict(header(content)["__metadata__"]["state"])


@pytest.mark.parametrize("key", ["$tensor", "$float", "$", "a/b", "/", 3, None, ("a",)], ids=str)
def test_a_key_that_could_be_mistaken_is_refused(key):
    with pytest.raises(ValueError, match="a key must be a string"):
        packed({"weights": {key: 1}})


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", torch.float32, object()], ids=lambda value: type(value).__name__)
def test_what_is_no_plain_value_is_refused(value):
    with pytest.raises(TypeError):
        packed({"weights": value})


def test_equal_dicts_give_equal_bytes():
    one = {"b": 1, "a": {"y": WHOLE, "x": WHOLE + 1}}
    other = {"a": {"x": WHOLE + 1, "y": WHOLE.clone()}, "b": 1}
    assert packed(one) == packed(other) == packed(unpacked(packed(one)))


WRITE = """
import sys, torch
from fmnist.program.packing import packed
names = {f"layer {number}" for number in range(50)}  # in an order that the hash seed decides
weights = {name: torch.full((3,), float(name.split()[1])) for name in names}
sys.stdout.buffer.write(packed({"weights": weights, "steps": 3, "bits": torch.ones(2, dtype=torch.uint8)}))
"""


@pytest.mark.long
def test_two_processes_with_other_hash_seeds_write_the_same_bytes(monkeypatch):
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # not that of this process
    other = subprocess.run([sys.executable, "-c", WRITE], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed},
                           capture_output=True, check=True).stdout  # fmt: skip
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(own := io.BytesIO(), encoding="utf-8"))
    exec(WRITE, {})
    assert own.getvalue() == other
    assert len(unpacked(other)["weights"]) == 50


def test_no_changed_byte_is_taken_nor_one_too_few_or_too_many():
    content = packed({"weights": {"a": torch.arange(4.0), "b": torch.ones(3, dtype=torch.uint8)}, "best": None})
    for place, byte in enumerate(content):
        for other in (byte ^ 1, byte ^ 128, 0x20, 0):
            if other != byte:
                with pytest.raises(ValueError, match="sum"):
                    unpacked(content[:place] + bytes([other]) + content[place + 1 :])
        with pytest.raises(ValueError, match="sum"):
            unpacked(content[:place])
    with pytest.raises(ValueError, match="sum"):
        unpacked(content + b"\0")


def test_any_reader_of_safetensors_finds_the_tensors(tmp_path):
    (tmp_path / "last.safetensors").write_bytes(packed({"weights": {"0.bias": WHOLE}, "epoch": 3}))
    assert torch.equal(safetensors.torch.load_file(tmp_path / "last.safetensors")["/weights/0.bias"], WHOLE)


def misleading(tensors, length=None, state='{"weights":{"a":{"$tensor":"/a"}}}'):
    """Bytes with a right sum, and a header by somebody else."""
    text = f'{{"crc32":"{NO_SUM}","state":{state}}}'
    whole = json.dumps({"__metadata__": {"state": text}, **tensors}).encode()
    return _summed((length or len(whole)).to_bytes(8, "little") + whole + bytes(16))


def entry(shape, end, begin=0, dtype="F32"):
    return {"/a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}


MISLEADING = {
    "a header of 10^12 bytes": misleading(entry([4], 16), length=10**12),
    "a header of all bytes": misleading(entry([4], 16), length=2**64 - 1),
    "10^12 numbers": misleading(entry([10**12], 4 * 10**12)),
    "10^12 numbers in 16 bytes": misleading(entry([10**12], 16)),
    "more numbers than 64 bits can count": misleading(entry([2**62, 2**62], 16)),
    "a negative length": misleading(entry([-4], 16)), "an end before its beginning": misleading(entry([4], 0, 16)),
    "an unknown kind of numbers": misleading(entry([4], 16, dtype="F1024")),
    "a tensor that is not there": misleading(entry([4], 16), state='{"weights":{"$tensor":"/b"}}'),
    "a name that is a list": misleading(entry([4], 16), state='{"weights":{"$tensor":["/a"]}}'),
    "a number that is none": misleading(entry([4], 16), state='{"weights":{"$float":"much"}}'),
    "a number of another kind": misleading(entry([4], 16), state='{"weights":{"$float":[1]}}'),
    "a deep list": misleading(entry([4], 16), state="[" * 100_000 + "]" * 100_000), "no text": misleading({}, state=""),
}  # fmt: skip


@pytest.mark.parametrize("what", MISLEADING)
def test_what_is_made_to_mislead_is_refused_without_taking_memory(what):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it hits
        unpacked(MISLEADING[what])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_what_is_not_misleading_is_taken():
    assert unpacked(misleading(entry([4], 16)))["weights"]["a"].tolist() == [0, 0, 0, 0]
