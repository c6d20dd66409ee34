"""Operations captured as CUDA graphs do what they do one by one, on the device that is asked for."""

from contextlib import contextmanager
from types import FunctionType, MethodType

import pytest
import torch
from helpers import make_config
from speed.twins import MODELS, assert_same_steps, twins

from fmnist.speed.graphs import CudaGraphs, capture_on, perform


class StandIn:
    """What captures, without a device that can: groups of operations, some of which it refuses."""

    def __init__(self, refused=()):
        self.refused, self.groups, self.warmed = refused, [], 0

    def warm_up(self, operations):
        perform(operations)
        self.warmed += 1

    def __call__(self, operations):
        self.groups.append(operations)
        if len(self.groups) - 1 in self.refused:
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda: perform(operations)


@pytest.mark.parametrize("refused", [(), (0, 2), range(1000)], ids=["all", "some", "none"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["model"])
def test_captured_steps_are_the_steps(dataset, monkeypatch, model, refused):
    stand_in = StandIn(refused)
    monkeypatch.setattr("fmnist.speed.step.capture_on", lambda device: stand_in)
    monkeypatch.setattr("fmnist.nn.step.chunk_rows", lambda device: 50)
    monkeypatch.setattr("fmnist.data.batches.GATHERED", 64)  # so that each pair of buffers is used many times
    for batch_size in (None, 80):
        knobs = {**model, "precision": "float64", "batch_size": batch_size, "dropout": 0.3, "skip": True}
        assert_same_steps([make_config(**knobs, seed=seed) for seed in range(2)], dataset)
    assert stand_in.warmed
    functions = {f for group in stand_in.groups for f, _, _ in group}
    assert torch.bmm in functions
    assert not any(isinstance(f, FunctionType | MethodType) for f in functions)  # they may draw noise, or count


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["model"])
def test_steps_in_graphs_are_the_steps_on_each_device_that_is_here(dataset, monkeypatch, device, model):
    monkeypatch.setenv("FMNIST_CUDA_GRAPHS", "1")
    monkeypatch.setattr("fmnist.data.batches.GATHERED", 64)
    configs = [make_config(**model, precision="float64", batch_size=80, dropout=0.3, seed=seed) for seed in range(2)]
    assert_same_steps(configs, dataset, device)
    stack = twins(configs, dataset, device)[1]
    for epoch in range(1, 4):
        stack.train_epoch(epoch)
    assert all(bool(tape.captured) == (device.type == "cuda") for tape, _ in stack.step.tapes.values())


def test_graphs_are_for_cuda_and_can_be_turned_off(monkeypatch):
    for value in (None, "0", "1"):
        if value is None:
            monkeypatch.delenv("FMNIST_CUDA_GRAPHS", raising=False)
        else:
            monkeypatch.setenv("FMNIST_CUDA_GRAPHS", value)
        assert capture_on(torch.device("cpu")) is None
        capture = capture_on(torch.device("cuda:1"))
        assert isinstance(capture, CudaGraphs) == (value != "0")
        assert capture is None or capture.device == torch.device("cuda:1")


class Stream:
    """A queue of a device. What it is given while it records is not done."""

    def __init__(self, device):
        self.device, self.recording, self.waited_for = device, None, []

    def wait_stream(self, other):
        self.waited_for.append(other)


class Graph:
    """What a stream has recorded."""

    def __init__(self):
        self.recorded, self.pool = [], None

    def replay(self):
        for job in self.recorded:
            job()


class Cuda:
    """torch.cuda without a device: which device and which streams are the current ones, and what was done on which.
    As there, a graph without a stream of its own gets one that the process made once, on what was then the current
    device; and a stream that is not recording does at once what it is given."""

    def __init__(self, devices=3):
        self.now, self.defaults = 0, [Stream(device) for device in range(devices)]
        self.streams, self.done, self.for_capture = list(self.defaults), [], None

    def index(self, device):
        return self.now if device is None or device.index is None else device.index

    def install(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device", self.device)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device=None: Stream(self.index(device)))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: self.streams[self.index(device)])
        monkeypatch.setattr(torch.cuda, "set_stream", self.set_stream)
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        return self

    def set_stream(self, stream):
        self.now = stream.device
        self.streams[stream.device] = stream

    @contextmanager
    def device(self, device):
        before, self.now = self.now, self.index(device)
        try:
            yield
        finally:
            self.now = before

    @contextmanager
    def stream(self, stream):
        before, of_device = self.now, self.streams[stream.device]
        self.set_stream(stream)
        yield
        self.streams[stream.device], self.now = (
            of_device,
            before,
        )  # not after an error: there torch ends a capture with another, before it comes to this

    @contextmanager
    def graph(self, graph, pool=None, stream=None):
        self.for_capture = self.for_capture or Stream(self.now)
        graph.pool = pool
        with self.stream(stream or self.for_capture):
            own = self.streams[self.now]
            own.recording = graph.recorded
            try:
                yield
            finally:
                own.recording = None


class Kernel:
    """An operation on tensors of a device: its current stream is given it."""

    def __init__(self, cuda, device, name):
        self.cuda, self.device, self.name = cuda, device, name

    def __call__(self):
        stream = self.cuda.streams[self.device]
        if stream.recording is None:
            self.cuda.done.append((self.name, stream))
        else:
            stream.recording.append(lambda: self.cuda.done.append((self.name, stream)))


@pytest.mark.parametrize("places", [(0,), (1,), (2, 1, 0)], ids=str)
def test_capture_is_on_the_device_that_is_given_and_on_a_stream_of_its_own(monkeypatch, places):
    cuda, owned = Cuda().install(monkeypatch), []
    for place in places:
        capture = CudaGraphs(torch.device(f"cuda:{place}"))
        jobs = [(Kernel(cuda, place, name), (), {}) for name in "abc"]
        capture.warm_up(jobs)
        assert [name for name, _ in cuda.done] == ["a", "b", "c"]
        (own,) = {stream for _, stream in cuda.done}
        cuda.done.clear()
        first, second = capture(jobs[:2]), capture(jobs[2:])
        assert not cuda.done  # captured, not done
        first(), second(), first()
        assert cuda.done == [(name, own) for name in ("a", "b", "c", "a", "b")]
        assert own.device == place
        assert own not in cuda.defaults
        assert first.__self__.pool is second.__self__.pool is not None  # they share their memory
        default = cuda.defaults[place]
        assert set(own.waited_for) == {default}
        assert set(default.waited_for) == {own}
        assert cuda.now == 0
        assert cuda.streams == cuda.defaults
        owned.append(own)
        cuda.done.clear()
    assert len(set(owned)) == len(places)


def test_a_capture_that_fails_leaves_all_as_it_was(monkeypatch):
    cuda = Cuda().install(monkeypatch)
    capture, good = CudaGraphs(torch.device("cuda:1")), Kernel(cuda, 1, "good")

    def forbidden():
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        capture([(good, (), {}), (forbidden, (), {})])
    assert cuda.now == 0
    assert cuda.streams == cuda.defaults
    good()
    assert cuda.done == [("good", cuda.defaults[1])]
    capture([(good, (), {})])()
    assert len(cuda.done) == 2
