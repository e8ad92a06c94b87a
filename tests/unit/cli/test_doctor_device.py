"""The doctor on the device: each state of runtime, driver and setting has its own word and its own next step."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from cli.doctor.device import Facts, gather, judge
from cli.doctor.finding import BAD, GOOD, UNSURE
from mesh.gpus import Gpu, Gpus, find_gpus

CARD = Gpu("NVIDIA L4", 24 * 1024**3)
ONE = Gpus((CARD,), "580.65.06", kernel=True)
NONE = Gpus(error="libnvidia-ml.so.1 is not here: no NVIDIA driver, or a container that was not given it")
LOST = Gpus(kernel=True, error="the driver answers nvmlInit_v2 with error 18")
CPU_BUILD, GPU_BUILD = ("CPUExecutionProvider",), ("CUDAExecutionProvider", "CPUExecutionProvider")
PLAIN = Facts("cpu", ["onnxruntime"], "1.32.0", CPU_BUILD, "", NONE)
CUDA = Facts("cuda", ["onnxruntime-gpu"], "1.31.1", GPU_BUILD, "", ONE)


def said(facts: Facts) -> dict[str, tuple[str, str, str]]:
    return {each.what: (each.state, each.detail, each.remedy) for each in judge(facts)}


@pytest.mark.parametrize(
    ("facts", "what", "state", "detail", "remedy"),
    [
        (PLAIN, "inference device", GOOD, "cpu", ""),
        (PLAIN, "GPUs", GOOD, "none: libnvidia-ml.so.1 is not here", ""),
        (PLAIN, "ONNX Runtime", GOOD, "1.32.0, built for CPU", ""),
        (replace(PLAIN, gpus=ONE), "inference device", UNSURE, "though there is a GPU", "make setup RUNTIME=gpu"),
        (replace(CUDA, wanted="cpu"), "inference device", UNSURE, "though there is", "set engine.device: cuda"),
        (CUDA, "inference device", GOOD, "cuda, which computed", ""),
        (CUDA, "GPUs", GOOD, "NVIDIA L4, 24 GiB; driver 580.65.06", ""),
        (replace(PLAIN, wanted="cuda", gpus=ONE), "inference device", BAD, "built without it", "RUNTIME=gpu"),
        (replace(CUDA, packages=["a", "b"]), "ONNX Runtime", BAD, "both installed", "pip uninstall -y onnxruntime"),
        (replace(CUDA, version="", providers=(), error="No module"), "ONNX Runtime", BAD, "No module", "make setup"),
        (replace(CUDA, gpus=NONE, error="no CUDA-capable"), "inference device", BAD, "no CUDA", "install NVIDIA's dr"),
        (replace(CUDA, gpus=LOST, error="x"), "GPUs", UNSURE, "has NVIDIA's module, but", "--gpus all"),
        (
            replace(CUDA, error="CUDA driver version is insufficient for CUDA runtime version"),
            "inference device", BAD, "which does not work", "update the driver (580.65.06)",
        ),
        (
            replace(CUDA, error="libcudnn.so.9: cannot open shared object file"),
            "inference device", BAD, "libcudnn", "a library of CUDA or cuDNN is missing",
        ),
        (replace(CUDA, wanted="cuda:2"), "inference device", BAD, "last GPU is number 0", "engine.device: cuda:0"),
        (
            replace(CUDA, wanted="tensorrt", providers=("TensorrtExecutionProvider", *GPU_BUILD), error="libnvinfer"),
            "inference device", BAD, "libnvinfer", "engine.device: cuda",
        ),
        (replace(CUDA, wanted="tensorrt"), "inference device", BAD, "built without it", "RUNTIME=gpu"),
        (replace(CUDA, error="out of memory"), "inference device", BAD, "out of memory", "gpu_memory_bytes"),
    ],
)  # fmt: skip
def test_a_state_is_said_with_the_next_step(facts, what, state, detail, remedy):
    found = said(facts)[what]
    assert found[0] == state
    assert detail in found[1]
    assert remedy in found[2]
    assert bool(found[2]) == (state != GOOD)


def test_this_machine_is_looked_at_without_a_change_to_this_process():
    facts = gather("cpu")
    assert facts.version
    assert "CPUExecutionProvider" in facts.providers
    assert facts.error == ""
    assert said(facts)["ONNX Runtime"][0] == GOOD


def test_a_device_that_cannot_compute_here_is_found_out_by_computing_on_it():
    """Asked for outright, so that what is read is the answer of a runtime that tried."""
    facts = gather("cuda")
    assert facts.gpus.found or facts.error or "CUDAExecutionProvider" not in facts.providers
    assert facts.gpus.found or said(facts)["inference device"][0] == BAD


class Driver:
    """pynvml where there is one GPU, and one function that fails."""

    NVMLError = RuntimeError

    def __init__(self, fails: str = ""):
        self.fails = fails
        self.ended = 0

    def __getattr__(self, name: str):
        answers = {
            "nvmlInit": None,
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": 77,
            "nvmlDeviceGetName": "NVIDIA L4",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=24 * 1024**3),
            "nvmlSystemGetDriverVersion": "580.65.06",
        }

        def call(*_):
            if name == self.fails:
                raise RuntimeError("Unknown Error")
            return answers[name]

        return call

    def nvmlShutdown(self):
        self.ended += 1


def test_the_gpus_that_the_driver_tells_of_are_found(tmp_path):
    driver = Driver()
    assert find_gpus(driver, tmp_path) == Gpus((CARD,), "580.65.06", kernel=True)
    assert driver.ended == 1


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetMemoryInfo"])
def test_a_driver_that_answers_with_an_error_is_said(function, tmp_path):
    found = find_gpus(Driver(function), tmp_path / "missing")
    assert (found.found, found.kernel) == ((), False)
    assert "Unknown Error" in found.error
