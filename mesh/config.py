"""The settings: one `tiation.yaml` in the home, `TIATION_…` variables over it, both checked by name.

What a setting does lives where it is used; this module only knows their names, types and defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

import msgspec
import yaml

from mesh.errors import Code, TiationError

__all__ = [
    "SERVICES",
    "Endpoint",
    "EngineSettings",
    "GatewaySettings",
    "IntegrationSettings",
    "OrchestratorSettings",
    "SecuritySettings",
    "Settings",
    "SettingsError",
    "load_settings",
]

SERVICES = ("security", "engine", "integration", "orchestrator")
"""The services in the order in which they start."""

_PREFIX = "TIATION_"
_RESERVED = {"TIATION_HOME", "TIATION_OUTPUT"}


class SettingsError(TiationError):
    """A setting is unknown or has a value that cannot be."""

    code = Code.INVALID_ARGUMENT
    reason = "SETTING_INVALID"


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the settings; unknown keys are refused."""


class Endpoint(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a service listens. The supervisor fills this in; on a cluster the operator does."""

    address: str = ""
    metrics_port: int = 0


class GatewaySettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The front door."""

    host: str = "127.0.0.1"
    port: int = 8443
    max_request_bytes: int = 16 * 1024 * 1024
    requests_per_second: int = 20_000
    max_connections: int = 10_000
    max_calls: int = 4096
    cors_origins: tuple[str, ...] = ()
    envoy: str = ""


class SecuritySettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Identity, policy, records."""

    svid_ttl_s: int = 3600
    token_ttl_s: int = 900
    policy_heartbeat_s: float = 5.0


class EngineSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Models and decisions."""

    system_models: str = ""
    device: str = "cpu"
    intra_op_threads: int = 0
    max_batch: int = 32
    max_queue: int = 1024


class OrchestratorSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Agents and runs."""

    max_concurrent_runs: int = 64
    lease_s: float = 5.0
    step_budget: int = 1000


class IntegrationSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Connections."""

    sqlite_folder: str = ""
    sql_drivers: tuple[str, ...] = ("sqlite",)
    allowed_hosts: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    private_networks: bool = False
    effects_kept_s: float = 30 * 86_400.0


class Settings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything an operator may set.

    Attributes:
        trust_domain: the SPIFFE trust domain of the mesh.
        log_level: debug, info, warning or error.
        policy_stale_s: seconds without word from security after which new writes are refused.
        drain_s: the longest a stopping service waits for calls under way.
    """

    trust_domain: str = "tiation.local"
    log_level: str = "info"
    policy_stale_s: float = 30.0
    drain_s: float = 10.0
    gateway: GatewaySettings = GatewaySettings()
    security: SecuritySettings = SecuritySettings()
    engine: EngineSettings = EngineSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    integration: IntegrationSettings = IntegrationSettings()
    services: Mapping[str, Endpoint] = {}


def load_settings(home: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read `home/tiation.yaml`, if there is one, and lay the variables over it.

    `TIATION_ENGINE__MAX_BATCH=16` sets `engine.max_batch`; two underscores part the levels, and `[a, b]` is a list.

    Raises:
        SettingsError: an unknown key, or a value of the wrong type; the message names it.
    """
    tree = _read_file(home / "tiation.yaml")
    for name, value in sorted(environment.items()):
        if name.startswith(_PREFIX) and name not in _RESERVED:
            _place(tree, name, name.removeprefix(_PREFIX).lower().split("__"), value)
    _check_names(tree, Settings, "")
    try:
        return msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"tiation.yaml or a TIATION_ variable: {error}") from None


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {error}", file=path) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: must hold settings as `name: value` lines", file=path)
    return tree


def _place(tree: dict[str, Any], name: str, keys: list[str], value: str) -> None:
    """Put a variable's value at its place in the tree."""
    for key in keys[:-1]:
        below = tree.setdefault(key, {})
        if not isinstance(below, dict):
            raise SettingsError(f"{name}: `{key}` holds a value, not further settings", variable=name)
        tree = below
    tree[keys[-1]] = _listed(name, value) if value.startswith("[") else value


def _listed(name: str, value: str) -> Any:  # noqa: ANN401 -- a list of whatever stands in it
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise SettingsError(f"{name}: `{value}` is no list; write `[first, second]`", variable=name) from None


def _check_names(tree: dict[str, Any], section: type[_Section], path: str) -> None:
    """Refuse unknown keys by their full name, with the nearest one that exists; part lists that are one text."""
    fields = {info.name: info.type for info in msgspec.structs.fields(section)}
    for key, value in tree.items():
        if key not in fields:
            near = get_close_matches(str(key), fields, n=1)
            hint = f"; did you mean `{path}{near[0]}`?" if near else f"; known are {', '.join(sorted(fields))}"
            raise SettingsError(f"unknown setting `{path}{key}`{hint}", setting=f"{path}{key}")
        kind = fields[key]
        if get_origin(kind) is tuple and isinstance(value, str):  # a variable holds a list as `one,two`
            tree[key] = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(kind, type) and issubclass(kind, _Section) and isinstance(value, dict):
            _check_names(value, kind, f"{path}{key}.")
