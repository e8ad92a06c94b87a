"""The device of the settings: what the runtime is told of it, and that the engine computes on no other one."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import DeviceUnavailableError
from engine.runtime.binding import CudaHost, PinnedBuffers, run_bound
from engine.runtime.devices import Device, choose, read_device
from engine.runtime.onnx import onnxruntime
from engine.runtime.sessions import SessionSettings, check_device, open_session
from tests.unit.engine.graphs import doubling

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
EVERY = (TENSORRT, CUDA, CPU)


class Host:
    """Pins as far as it is let, and remembers what is pinned."""

    def __init__(self, *, allowed: int = 100):
        self.allowed = allowed
        self.pinned: dict[int, int] = {}

    def pin(self, address: int, size: int) -> bool:
        if len(self.pinned) >= self.allowed:
            return False
        assert address not in self.pinned
        self.pinned[address] = size
        return True

    def unpin(self, address: int) -> None:
        del self.pinned[address]


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("cpu", Device("cpu")),
        ("cuda", Device("cuda", 0)),
        ("cuda:3", Device("cuda", 3)),
        ("tensorrt:1", Device("tensorrt", 1)),
    ],
)
def test_a_device_is_read(text, device):
    assert read_device(text) == device


@pytest.mark.parametrize("text", ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "CUDA"])
def test_a_device_that_nobody_knows_is_refused(text):
    with pytest.raises(DeviceUnavailableError, match="known are cpu, cuda"):
        read_device(text)


def test_cuda_is_told_its_number_its_limit_and_to_take_no_more_than_it_needs():
    [(name, options)] = choose(read_device("cuda:1"), EVERY, memory_bytes=1 << 30)
    assert name == CUDA
    assert options == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "gpu_mem_limit": str(1 << 30),
    }
    assert "gpu_mem_limit" not in choose(read_device("cuda"), EVERY)[0][1]


def test_tensorrt_leaves_to_cuda_what_it_cannot_and_keeps_no_engine_of_other_weights():
    (first, options), (second, _) = choose(read_device("tensorrt:1"), EVERY)
    assert (first, second) == (TENSORRT, CUDA)
    assert options["trt_engine_cache_enable"] == "0"
    assert options["device_id"] == "1"


@pytest.mark.parametrize(("device", "there"), [("cuda", (CPU,)), ("tensorrt", (CUDA, CPU)), ("tensorrt", (CPU,))])
def test_a_runtime_without_the_device_is_refused_and_the_message_says_what_it_has_and_what_to_install(device, there):
    with pytest.raises(DeviceUnavailableError, match=r"has no \w+.*it has .*CPU.*extra `gpu`"):
        choose(read_device(device), there)


def test_the_cpu_is_always_there():
    check_device(SessionSettings("cpu"))


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused_with_the_reason():
    with pytest.raises(
        DeviceUnavailableError, match=r"engine\.device: cuda, but the installed onnxruntime has no CUDA"
    ):
        check_device(SessionSettings("cuda"))


def test_a_runtime_that_took_the_cpu_instead_is_refused(monkeypatch):
    """With a GPU build and no driver the runtime opens the session all the same, on the CPU."""
    monkeypatch.setattr("engine.runtime.sessions._providers", lambda _: [(CUDA, {}), (CPU, {})])
    refused = pytest.raises(DeviceUnavailableError, match=r"engine\.device: cuda, but the runtime could not use it")
    with refused, pytest.warns(UserWarning, match=CUDA):
        check_device(SessionSettings("cuda"))


def test_large_inputs_are_staged_in_pinned_memory_which_is_used_again_and_let_go_at_the_end():
    host = Host()
    buffers = PinnedBuffers(host)
    large, small = np.arange(100_000, dtype=np.float32), np.ones(3, np.float32)
    for _ in range(3):
        with buffers.staged({"a": large, "b": small}) as staged:
            assert staged["a"].ctypes.data in host.pinned
            assert staged["b"] is small
            np.testing.assert_array_equal(staged["a"], large)
    assert list(host.pinned.values()) == [1 << 19]
    with buffers.staged({"a": large}):
        buffers.close()
        assert len(host.pinned) == 1  # a run still has it
    assert not host.pinned
    with buffers.staged({"a": large}) as staged:
        assert staged["a"] is large


def test_two_runs_at_once_have_memory_of_their_own():
    host = Host()
    buffers = PinnedBuffers(host)
    one, two = np.zeros(100_000, np.float32), np.ones(100_000, np.float32)
    with buffers.staged({"x": one}) as first, buffers.staged({"x": two}) as second:
        assert first["x"].sum() == 0
        assert second["x"].sum() == 100_000


def test_what_cannot_be_pinned_is_computed_all_the_same():
    large = np.ones(100_000, np.float32)
    for buffers in (PinnedBuffers(Host(allowed=0)), PinnedBuffers(Host(), most_bytes=1000)):
        with buffers.staged({"x": large}) as staged:
            assert staged["x"] is large


def test_the_cuda_runtime_is_looked_for_by_its_names_and_may_be_missing():
    asked = []

    def load(name: str) -> object:
        asked.append(name)
        raise OSError(name)

    assert CudaHost.open(load) is None
    assert asked == ["libcudart.so.13", "libcudart.so.12"]


def test_a_bound_run_gives_what_a_plain_one_gives(tmp_path):
    """On the CPU, where binding works the same way."""
    path = tmp_path / "m.onnx"
    path.write_bytes(doubling(["n", 2]))
    session = onnxruntime.InferenceSession(str(path), providers=[CPU])
    alone = open_session(path, SessionSettings())
    buffers = PinnedBuffers(Host())
    for rows in (1, 20_000, 3, 20_000):
        x = np.random.default_rng(rows).normal(size=(2 * rows, 2)).astype(np.float32)[::2]
        [y] = run_bound(session, ["y"], {"x": x}, onnxruntime.RunOptions(), buffers)
        np.testing.assert_array_equal(y, x * 2)
        [plain] = alone.run({"x": x}).values()
        np.testing.assert_array_equal(y, plain)
    alone.close()
