"""Where models compute: the runtime that is installed, the GPUs that are here, and why they are not used.

What is found is gathered first and judged after, so that every judgement can be had on any machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from cli.assets import is_clone
from cli.doctor.finding import Finding, bad, good, unsure
from mesh.config import Settings
from mesh.gpus import Gpus, find_gpus

__all__ = ["Facts", "gather", "judge", "look_at_device", "runtime_packages"]

_TRIAL_S = 60.0
_TRIAL = """
import json, os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
found = {"version": "", "providers": [], "error": ""}
try:
    import onnxruntime
    found["version"], found["providers"] = onnxruntime.__version__, onnxruntime.get_available_providers()
    if sys.argv[1]:
        from onnx import TensorProto, helper
        getattr(onnxruntime, "preload_dlls", lambda: None)()
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "trial", values[:1], values[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=[(sys.argv[1], {"device_id": sys.argv[2]})], enable_fallback=0
        )
        if sys.argv[1] not in session.get_providers():
            found["error"] = "the runtime took " + ", ".join(session.get_providers()) + " instead"
except Exception as error:  # whatever the runtime raises is what the doctor tells
    found["error"] = str(error) or type(error).__name__
print(json.dumps(found))
"""
"""Run in a process of its own: a driver that does not fit may end it."""
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_LIBRARIES = ("libcudart", "libcublas", "libcudnn", "libcufft", "libcurand", "libnvrtc")


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found.

    Attributes:
        wanted: `engine.device`.
        packages: the distributions that hold the runtime.
        version: of the runtime; empty where it cannot be loaded.
        providers: what it is built with.
        error: why it cannot be loaded, or cannot compute on the device that is wanted.
        gpus: what the driver tells.
    """

    wanted: str
    packages: Sequence[str]
    version: str
    providers: Sequence[str]
    error: str
    gpus: Gpus


def look_at_device(settings: Settings) -> Iterator[Finding]:
    """Everything about it."""
    yield from judge(gather(settings.engine.device))


def runtime_packages() -> list[str]:
    """The distributions of the runtime that are installed; one, where all is well."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def gather(wanted: str) -> Facts:
    """Look at the runtime, in a process of its own, and at the driver.

    Args:
        wanted: `engine.device`.
    """
    kind, _, number = wanted.partition(":")
    version, providers, error = _try(_PROVIDERS.get(kind, ""), number or "0")
    return Facts(wanted, runtime_packages(), version, providers, error, find_gpus())


def judge(facts: Facts) -> Iterator[Finding]:
    """What is said of it: the runtime, the GPUs, and the device that the engine uses."""
    yield _runtime(facts)
    yield _gpus(facts)
    yield _device(facts)


def _runtime(facts: Facts) -> Finding:
    if len(facts.packages) > 1:
        return bad(
            "ONNX Runtime", "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other's files",
            f"run `pip uninstall -y onnxruntime onnxruntime-gpu`, then {_recipe()}, with {_for_gpu()} for a GPU",
        )  # fmt: skip
    if not facts.version:
        return bad("ONNX Runtime", facts.error or "it is not installed", f"run {_recipe()}")
    shown = ", ".join(name.removesuffix("ExecutionProvider") for name in facts.providers)
    return good("ONNX Runtime", f"{facts.version}, built for {shown}")


def _recipe() -> str:
    """What brings the runtime."""
    return "`make setup`" if is_clone() else "`pip install onnxruntime`"


def _for_gpu() -> str:
    return "RUNTIME=gpu" if is_clone() else "`onnxruntime-gpu[cuda,cudnn]` in its place"


def _gpu_recipe() -> str:
    """What brings the runtime for GPUs."""
    if is_clone():
        return "run `make setup RUNTIME=gpu` (docs/devices.md)"
    return "run `pip uninstall -y onnxruntime`, then `pip install 'onnxruntime-gpu[cuda,cudnn]'`"


def _gpus(facts: Facts) -> Finding:
    gpus = facts.gpus
    if gpus.found:
        shown = "; ".join(f"{gpu.name}, {gpu.memory_bytes / 1024**3:.0f} GiB" for gpu in gpus.found)
        return good("GPUs", f"{shown}; driver {gpus.driver}")
    if gpus.kernel:
        return unsure(
            "GPUs", f"the kernel has NVIDIA's module, but {gpus.error}",
            "start the container with its GPUs (`docker run --gpus all`), or restart the machine after a driver update",
        )  # fmt: skip
    return good("GPUs", f"none: {gpus.error}")


def _device(facts: Facts) -> Finding:
    kind, _, number = facts.wanted.partition(":")
    if kind == "cpu":
        if not facts.gpus.found:
            return good("inference device", "cpu")
        built = _PROVIDERS["cuda"] in facts.providers
        remedy = "set engine.device: cuda" if built else f"{_gpu_recipe()}, then set engine.device: cuda"
        return unsure("inference device", "cpu, though there is a GPU: engine.device says so", remedy)
    if facts.version and _PROVIDERS[kind] not in facts.providers:
        return bad(
            "inference device", f"engine.device is {facts.wanted}, but ONNX Runtime here is built without it",
            f"{_gpu_recipe()}, or set engine.device: cpu",
        )  # fmt: skip
    if facts.gpus.found and int(number or 0) >= len(facts.gpus.found):
        last = len(facts.gpus.found) - 1
        return bad(
            "inference device", f"engine.device is {facts.wanted}, and the last GPU is number {last}",
            f"set engine.device: {kind}:{last}",
        )  # fmt: skip
    if facts.error or not facts.version:
        detail = f"engine.device is {facts.wanted}, which does not work: {' '.join(facts.error.split())[:300]}"
        return bad("inference device", detail, _remedy(facts))
    return good("inference device", f"{facts.wanted}, which computed")


def _remedy(facts: Facts) -> str:
    """What to do about a device that does not work."""
    text = facts.error.lower()
    if not facts.gpus.kernel and not facts.gpus.found:
        return "install NVIDIA's driver, or give the container its GPUs (`docker run --gpus all`)"
    if "driver version is insufficient" in text:
        return f"update the driver ({facts.gpus.driver or 'not known'}): it is older than CUDA wants"
    if "libnvinfer" in text:
        return "install NVIDIA's TensorRT, so that libnvinfer is found, or set engine.device: cuda"
    if any(name in text for name in _LIBRARIES):
        return f"a library of CUDA or cuDNN is missing: {_gpu_recipe()}, which brings them"
    if "out of memory" in text:
        return "its memory is taken: see `nvidia-smi`, or set engine.gpu_memory_bytes lower"
    return "see what `nvidia-smi` says, or set engine.device: cpu"


def _try(provider: str, number: str) -> tuple[str, Sequence[str], str]:
    """The runtime's version, what it is built with, and why it cannot compute on a provider's device.

    Args:
        provider: empty where nothing shall be computed.
        number: of the device.
    """
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    try:
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _TRIAL, provider, number],
            capture_output=True, text=True, timeout=_TRIAL_S, check=False, env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", (), f"it did not compute within {_TRIAL_S:g} s"
    try:
        found = json.loads(ended.stdout.strip().rsplit("\n", 1)[-1])
    except ValueError:
        return "", (), f"it was ended with {ended.returncode}: {ended.stderr.strip()[-200:]}"
    return str(found["version"]), found["providers"], str(found["error"])
