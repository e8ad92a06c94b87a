"""The device of the settings: the engine does not start on another one than it was told."""

from __future__ import annotations

import pytest

from engine.errors import DeviceUnavailableError
from engine.runtime.onnx import onnxruntime
from engine.runtime.sessions import SessionSettings, check_device


def test_the_cpu_is_always_there():
    check_device(SessionSettings("cpu"))


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused_with_the_reason():
    with pytest.raises(
        DeviceUnavailableError, match=r"engine\.device: cuda, but the installed onnxruntime has no CUDA"
    ):
        check_device(SessionSettings("cuda"))


def test_a_runtime_that_took_the_cpu_instead_is_refused(monkeypatch):
    """With a GPU build and no driver the runtime opens the session all the same, on the CPU."""
    monkeypatch.setattr("engine.runtime.sessions._provider", lambda _: "CUDAExecutionProvider")
    refused = pytest.raises(DeviceUnavailableError, match=r"engine\.device: cuda, but the runtime could not use it")
    with refused, pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        check_device(SessionSettings("cuda"))
