"""The settings: one `tiation.yaml` in the home, `TIATION_…` variables over it, both checked by name.

What a setting does lives where it is used; this module only knows their names, types and defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import msgspec
import yaml
from msgspec import Meta

from mesh.errors import Code, TiationError
from mesh.setting_ranges import Address, Device, LogLevel, Port, TrustDomain, fault_of_names, fault_of_setting

__all__ = [
    "REPLICATED",
    "SERVICES",
    "AnalyticsSettings",
    "Endpoint",
    "EngineSettings",
    "GatewaySettings",
    "IntegrationSettings",
    "LimitSettings",
    "OrchestratorSettings",
    "PriceSettings",
    "SecuritySettings",
    "Settings",
    "SettingsError",
    "TracingSettings",
    "check_processes",
    "load_settings",
    "process_name",
    "processes_of",
    "replicas_of",
]

SERVICES = ("security", "engine", "integration", "orchestrator", "analytics")
"""The services in the order in which they start."""

REPLICATED = ("engine", "orchestrator")
"""The services of which several processes may run, once they share a PostgreSQL database."""

_MOST_REPLICAS = 16
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
    metrics_port: Annotated[int, Meta(ge=0, le=65_535)] = 0


class GatewaySettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The front door."""

    host: Address = "127.0.0.1"
    port: Port = 8443
    names: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""
    max_request_bytes: Annotated[int, Meta(ge=1024, le=67_108_864)] = 16 * 1024 * 1024
    requests_per_second: Annotated[int, Meta(ge=1, le=10_000_000)] = 20_000
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    max_calls: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096
    cors_origins: tuple[str, ...] = ()
    envoy: str = ""
    managed: bool = True


class SecuritySettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Identity, policy, records."""

    svid_ttl_s: Annotated[int, Meta(ge=10, le=604_800)] = 3600
    token_ttl_s: Annotated[int, Meta(ge=1, le=3600)] = 900
    policy_heartbeat_s: Annotated[float, Meta(ge=0.1, le=60)] = 5.0


class EngineSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Models and decisions."""

    replicas: Annotated[int, Meta(ge=1, le=16)] = 1
    models: str = ""
    system_models: str = ""
    storage: Annotated[str, Meta(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?)?$")] = ""
    storage_endpoint: Annotated[str, Meta(pattern=r"^(https?://[^/@]+(:\d+)?/?)?$")] = ""
    storage_region: str = ""
    storage_key_id: str = ""
    storage_secret: str = ""
    device: Device = "cpu"
    gpu_memory_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    intra_op_threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    twins: bool = True
    signatures: Literal["off", "require"] = "off"
    signature_keys: str = ""
    memory_budget_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    gpu_memory_budget_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    max_batch: Annotated[int, Meta(ge=1, le=4096)] = 32
    max_queue: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    max_queue_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 256 * 1024 * 1024
    max_run_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    max_image_pixels: Annotated[int, Meta(ge=1, le=1 << 30)] = 16 * 1024 * 1024
    max_image_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 8 * 1024 * 1024
    shared_memory: Literal["off", "own", "any"] = "off"
    cache_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 64 * 1024 * 1024
    cache_value_bytes: Annotated[int, Meta(ge=1, le=1 << 29)] = 1024 * 1024
    cache_redis: str = ""
    cache_tenant_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    cache_ttl_s: Annotated[float, Meta(ge=0.001, le=31_536_000)] = 3600.0

    def __repr__(self) -> str:
        """Everything but what may hold a password."""
        secret = ("cache_redis", "storage_secret")
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in secret)
        return f"EngineSettings({', '.join(shown)})"


class OrchestratorSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Agents and runs."""

    replicas: Annotated[int, Meta(ge=1, le=16)] = 1
    max_concurrent_runs: Annotated[int, Meta(ge=0, le=100_000)] = 64
    lease_s: Annotated[float, Meta(ge=0.5, le=3600)] = 5.0
    step_budget: Annotated[int, Meta(ge=1, le=10_000_000)] = 1000
    max_claims: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    max_journal_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 30)] = 16 * 1024 * 1024
    max_queued_runs: Annotated[int, Meta(ge=0, le=100_000_000)] = 100_000


class IntegrationSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Connections."""

    sqlite_folder: str = ""
    sql_drivers: tuple[str, ...] = ("sqlite",)
    allowed_hosts: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    private_networks: bool = False
    effects_kept_s: Annotated[float, Meta(ge=3600, le=3_153_600_000)] = 30 * 86_400.0


class TracingSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Traces."""

    endpoint: Annotated[str, msgspec.Meta(pattern=r"^(https?://[^/]+(:\d+)?/?)?$")] = ""
    sample_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1


class LimitSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be asked for where neither the principal nor its tenant says; 0 means no limit."""

    requests_per_second: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    burst: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    concurrent_calls: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 1024
    tenant_requests_per_second: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    tenant_burst: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    tenant_concurrent_calls: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 2048


class PriceSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a thousand tokens, rows or calls of one model or connection cost."""

    tokens_in_1k: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    tokens_out_1k: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    rows_1k: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    calls_1k: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0


class AnalyticsSettings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Figures of calls and runs."""

    minutes_kept_d: Annotated[float, Meta(ge=0.01, le=36_500)] = 3.0
    hours_kept_d: Annotated[float, Meta(ge=0.01, le=36_500)] = 90.0
    days_kept_d: Annotated[float, Meta(ge=0.01, le=36_500)] = 1100.0
    max_series: Annotated[int, Meta(ge=1, le=100_000)] = 500
    prices: Mapping[str, PriceSettings] = {}


class Settings(_Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything an operator may set.

    Attributes:
        trust_domain: the SPIFFE trust domain of the mesh.
        log_level: debug, info, warning or error.
        policy_stale_s: seconds without word from security after which new writes are refused.
        drain_s: the longest a stopping service waits for calls under way.
        database: URL of a PostgreSQL database for all services; empty for a SQLite file a service.
    """

    trust_domain: TrustDomain = "tiation.local"
    log_level: LogLevel = "info"
    policy_stale_s: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    database: str = ""
    gateway: GatewaySettings = GatewaySettings()
    security: SecuritySettings = SecuritySettings()
    engine: EngineSettings = EngineSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    integration: IntegrationSettings = IntegrationSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()
    tracing: TracingSettings = TracingSettings()
    limits: LimitSettings = LimitSettings()
    services: Mapping[str, Endpoint] = {}

    def __repr__(self) -> str:
        """Everything but what may hold a password."""
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "database")
        return f"Settings({', '.join(shown)})"


def load_settings(home: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read `home/tiation.yaml`, if there is one, and lay the variables over it.

    `TIATION_ENGINE__MAX_BATCH=16` sets `engine.max_batch`; two underscores part the levels, commas a list.

    Raises:
        SettingsError: an unknown key, or a value of the wrong type; the message names it.
    """
    tree = _read_file(home / "tiation.yaml")
    for name, value in sorted(environment.items()):
        if name.startswith(_PREFIX) and name not in _RESERVED:
            _place(tree, name, name.removeprefix(_PREFIX).lower().split("__"), value)
    _check_names(tree, Settings, "")
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        fault = fault_of_setting(error, tree, Settings)
        raise SettingsError(f"tiation.yaml or a TIATION_ variable: {fault}") from None
    check_processes(settings)
    _check_front_door(settings.gateway)
    return settings


def processes_of(settings: Settings) -> dict[str, str]:
    """The processes that serve, in the order in which they start: each one's name, and its service.

    The first of a service has the service's name, the others a number besides: `orchestrator`, `orchestrator-2`.
    """
    found = {}
    for service in SERVICES:
        for number in range(1, replicas_of(settings, service) + 1):
            found[process_name(service, number)] = service
    return found


def process_name(service: str, number: int) -> str:
    """The name of a service's process, counted from 1."""
    return service if number == 1 else f"{service}-{number}"


def replicas_of(settings: Settings, service: str) -> int:
    """How many processes of a service run."""
    return int(getattr(settings, service).replicas) if service in REPLICATED else 1


def check_processes(settings: Settings) -> None:
    """Refuse numbers of processes that cannot work together.

    Raises:
        SettingsError: naming the setting.
    """
    for service in REPLICATED:
        setting, number = f"{service}.replicas", replicas_of(settings, service)
        if not 1 <= number <= _MOST_REPLICAS:
            raise SettingsError(f"{setting} must be from 1 to {_MOST_REPLICAS}, not {number}", setting=setting)
        if number > 1 and not settings.database:
            raise SettingsError(
                f"{setting} is {number}, but SQLite files belong to one process each; "
                "set `database` to a PostgreSQL URL, or have one replica",
                setting=setting,
            )
    if settings.engine.replicas > 1 and settings.engine.shared_memory != "off":
        raise SettingsError(
            f"engine.shared_memory is `{settings.engine.shared_memory}`, but a region is known to the engine that it "
            f"was registered with, and engine.replicas is {settings.engine.replicas}; set one of them otherwise",
            setting="engine.shared_memory",
        )


def _check_front_door(gateway: GatewaySettings) -> None:
    if fault := fault_of_names("gateway.names", gateway.names):
        raise SettingsError(fault, setting="gateway.names")
    if bool(gateway.certificate) != bool(gateway.key):
        here, gone = ("certificate", "key") if gateway.certificate else ("key", "certificate")
        raise SettingsError(
            f"gateway.{here} is set and gateway.{gone} is not; a certificate of your own needs both, and without "
            "them the front door makes one",
            setting=f"gateway.{gone}",
        )


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)  # the error's own text quotes the line, a password with it
        where = f", line {place.line + 1}, column {place.column + 1}" if place is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise SettingsError(f"{path}{where}: not valid YAML: {problem}", file=path) from None
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
    tree[keys[-1]] = value


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
