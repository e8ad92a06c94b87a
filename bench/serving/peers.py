"""The other servers: how each is installed, started with the same models, and reached.

Every one has a virtual environment of its own below `.cache/peers`, made when it is first asked for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.serving.load import ROOT, Target, ask
from bench.serving.workloads import ENCODER, TINY, Bodies
from tests.fakes.ports import free_ports

__all__ = ["PEERS", "Peer", "PeerError", "started"]

SERVERS = Path(__file__).parent / "servers"
VENVS = ROOT / ".cache" / "peers"
_START_S = 90.0
_SYSTEM_PYTHON = "/usr/bin/python3"


class PeerError(Exception):
    """A peer could not be installed or started here; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server.

    Attributes:
        packages: what is installed for it.
        command: what starts it, of its virtual environment, a folder to write to, and two free ports.
        target: how it is reached at these ports.
        padded: whether its batches take equal shapes only, so that clients pad their texts.
        wrapped: the key of the list that its JSON requests stand in.
        python: what its virtual environment is made with.
    """

    packages: tuple[str, ...]
    command: Callable[[Path, Path, Sequence[int]], Sequence[str]]
    target: Callable[[Sequence[int]], Target]
    padded: bool = False
    wrapped: str = ""
    python: str = sys.executable


def _script(name: str) -> Callable[[Path, Path, Sequence[int]], Sequence[str]]:
    return lambda venv, _, ports: [str(venv / "bin/python"), str(SERVERS / name), *map(str, ports)]


def _protocol(ports: Sequence[int]) -> Target:
    return Target(f"127.0.0.1:{ports[0]}")


def _json(ports: Sequence[int]) -> Target:
    return Target(urls={name: f"http://127.0.0.1:{ports[0]}/{name}" for name in (TINY, ENCODER)})


_TRITON_ENDS: Mapping[str, str] = {
    TINY: """
        input [{name: "input" data_type: TYPE_FP32 dims: [16]}]
        output [{name: "output" data_type: TYPE_FP32 dims: [4]}]""",
    ENCODER: """
        input [{name: "input_ids" data_type: TYPE_INT64 dims: [-1]},
               {name: "attention_mask" data_type: TYPE_INT64 dims: [-1]}]
        output [{name: "embedding" data_type: TYPE_FP32 dims: [384]}]""",
}


def _triton(venv: Path, folder: Path, ports: Sequence[int]) -> Sequence[str]:
    """Triton's own server, which the pytriton wheel holds, with its python backend."""
    packages = next((venv / "lib").iterdir()) / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    backend = server / "backends" / "python" / "triton_python_backend_stub"
    if not backend.exists():
        backend.write_bytes((stub / "triton_python_backend_stub").read_bytes())
        backend.chmod(0o755)
    for name, ends in _TRITON_ENDS.items():
        model = folder / "repository" / name
        (model / "1").mkdir(parents=True)
        (model / "1" / "model.py").write_bytes((SERVERS / "triton_model.py").read_bytes())
        (model / "config.pbtxt").write_text(
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: 32\n'
            "dynamic_batching { max_queue_delay_microseconds: 0 }\n"
            f"instance_group [{{kind: KIND_CPU count: 1}}]\n{ends}\n"
        )
    libraries = ":".join([str(packages / "nvidia_pytriton.libs"), str(Path(sys.base_prefix) / "lib"), f"{server}/lib"])
    return [
        "env", f"PATH={venv}/bin:{os.environ['PATH']}", f"PYTHONPATH={packages}", f"LD_LIBRARY_PATH={libraries}",
        f"{server}/bin/tritonserver", f"--model-repository={folder}/repository",
        f"--backend-directory={server}/backends", f"--grpc-port={ports[0]}", f"--http-port={ports[1]}",
        "--grpc-address=127.0.0.1", "--http-address=127.0.0.1", "--allow-metrics=false", "--allow-gpu-metrics=false",
        "--log-info=false", "--log-warning=false",
    ]  # fmt: skip


def _mlserver(venv: Path, folder: Path, ports: Sequence[int]) -> Sequence[str]:
    for name in (TINY, ENCODER):
        model = folder / name
        model.mkdir()
        (model / "served.py").write_bytes((SERVERS / "mlserver_model.py").read_bytes())
        settings = {"name": name, "implementation": "served.Served", "max_batch_size": 32, "max_batch_time": 0.001}
        (model / "model-settings.json").write_text(json.dumps(settings))
    settings = {
        "host": "127.0.0.1", "grpc_port": ports[0], "http_port": ports[1], "metrics_port": free_ports(1)[0],
        "parallel_workers": 0, "debug": False,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    return [str(venv / "bin/python"), "-c", "from mlserver.cli import main; main()", "start", str(folder)]


def _bento(venv: Path, _: Path, ports: Sequence[int]) -> Sequence[str]:
    place = ["--working-dir", str(SERVERS), "--host", "127.0.0.1", "--port", str(ports[0])]
    return [str(venv / "bin/python"), "-m", "bentoml", "serve", "bento_service:Served", *place]


PEERS: Mapping[str, Peer] = {
    "Triton": Peer(("nvidia-pytriton==0.7.0",), _triton, _protocol),
    "PyTriton": Peer(("nvidia-pytriton==0.7.0",), _script("pytriton_server.py"), _protocol, python=_SYSTEM_PYTHON),
    "MLServer": Peer(("mlserver==1.7.1",), _mlserver, _protocol, padded=True),
    "KServe": Peer(("kserve==0.21.0",), _script("kserve_server.py"), _protocol),
    "LitServe": Peer(("litserve==0.2.19",), _script("litserve_server.py"), _json),
    "BentoML": Peer(("bentoml==1.4.40",), _bento, _json, wrapped="rows"),
    "Ray Serve": Peer(("ray[serve]==2.60.0",), _script("ray_server.py"), _json),
}
"""Triton is the release that the pytriton wheel holds; its ONNX backend is no package that can be installed."""


def _installed(name: str, peer: Peer) -> Path:
    venv = VENVS / name.lower().replace(" ", "-")
    ready = venv / ".ready"
    if ready.exists():
        return venv
    sys.stderr.write(f"installing {name}\n")
    packages = [*peer.packages, f"onnxruntime=={version('onnxruntime')}"]
    make = [peer.python, "-m", "venv", "--without-pip", str(venv)]  # Debian's own has none to give
    install = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "-q", *packages]
    for command in (make, install):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise PeerError(f"not installed: {done.stderr.strip()[-300:]}")
    ready.touch()
    return venv


@contextmanager
def started(name: str, models: Mapping[str, Path], trial: Bodies, folder: Path) -> Iterator[Target]:
    """A peer that answers; it is ended with all its processes at the end.

    Raises:
        PeerError: it cannot be installed, or does not answer.
    """
    peer = PEERS[name]
    venv, ports = _installed(name, peer), free_ports(2)
    folder.mkdir(parents=True)
    environment = {
        **os.environ,
        "BENCH_MODELS": json.dumps({model: str(path) for model, path in models.items()}),
        "BENCH_SERVERS": str(SERVERS),
    }
    environment.pop("PYTHONPATH", None)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            peer.command(venv, folder, ports), stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=folder,
            env=environment, start_new_session=True,
        )  # fmt: skip
    try:
        target = peer.target(ports)
        _wait(process, target, trial, log)
        yield target
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], target: Target, trial: Bodies, log: Path) -> None:
    """Until it answers a request."""
    ends, why = time.monotonic() + _START_S, ""
    while time.monotonic() < ends:
        if process.poll() is not None:
            break
        try:
            ask(target, TINY, trial, clients=1, seconds=0.2, expect=1)
        except RuntimeError as error:
            why = str(error)
            time.sleep(0.5)
            continue
        return
    raise PeerError(f"does not answer: {why[:200]} {log.read_text(errors='replace')[-300:]}")
