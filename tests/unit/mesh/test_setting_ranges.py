"""Settings out of their range are refused, with the setting, its value and what it may be."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import inspect

from mesh.config import Settings, SettingsError, load_settings

WRONG = [
    ("trust_domain: bad domain!", "trust_domain is `bad domain!`; it must be a DNS name in lower case"),
    ("trust_domain: ''", "trust_domain is ``; it must be a DNS name"),
    ("log_level: loud", "log_level is `loud`; it must be one of debug, error, info, warning"),
    ("policy_stale_s: -1", "policy_stale_s is `-1`; it must be a number from 1 to 86400"),
    ("drain_s: -0.5", "drain_s is `-0.5`; it must be a number from 0 to 3600"),
    ("drain_s: .inf", "drain_s is `inf`; it must be a number from 0 to 3600"),
    ("gateway: {port: 0}", "gateway.port is `0`; it must be a whole number from 1 to 65535"),
    ("gateway: {port: 65536}", "gateway.port is `65536`; it must be a whole number from 1 to 65535"),
    ("gateway: {max_request_bytes: 10}", "gateway.max_request_bytes is `10`; it must be a whole number from 1024"),
    ("gateway: {requests_per_second: 0}", "gateway.requests_per_second is `0`; it must be a whole number from 1"),
    ("gateway: {max_connections: -1}", "gateway.max_connections is `-1`"),
    ("gateway: {max_calls: 0}", "gateway.max_calls is `0`"),
    ("security: {svid_ttl_s: 1}", "security.svid_ttl_s is `1`; it must be a whole number from 10 to 604800"),
    ("security: {token_ttl_s: 0}", "security.token_ttl_s is `0`"),
    ("security: {policy_heartbeat_s: 0}", "security.policy_heartbeat_s is `0`; it must be a number from 0.1 to 60"),
    ("engine: {device: tpu}", "engine.device is `tpu`; it must be one of cpu, cuda"),
    ("engine: {max_batch: 0}", "engine.max_batch is `0`; it must be a whole number from 1 to 4096"),
    ("engine: {max_batch: many}", "engine.max_batch is `many`; it must be a whole number from 1 to 4096"),
    ("engine: {max_queue: -5}", "engine.max_queue is `-5`"),
    ("engine: {intra_op_threads: -1}", "engine.intra_op_threads is `-1`; it must be a whole number from 0"),
    ("orchestrator: {max_concurrent_runs: -1}", "orchestrator.max_concurrent_runs is `-1`"),
    ("orchestrator: {lease_s: 0}", "orchestrator.lease_s is `0`"),
    ("orchestrator: {step_budget: 0}", "orchestrator.step_budget is `0`"),
    ("services: {engine: {metrics_port: -1}}", "services[...].metrics_port must be a whole number from 0 to 65535"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text for text, _ in WRONG])
def test_a_value_out_of_its_range_is_refused(tmp_path, text, said):
    (tmp_path / "tiation.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {})
    assert caught.value.message.startswith(f"tiation.yaml or a TIATION_ variable: {said}")


def test_a_variable_out_of_its_range_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"engine\.max_batch is `0`; it must be a whole number from 1 to 4096"):
        load_settings(tmp_path, {"TIATION_ENGINE__MAX_BATCH": "0"})


def numbers(kind: inspect.StructType, path: str = ""):
    """Every setting that is a number, with its type."""
    for field in kind.fields:
        below = field.type.value_type if isinstance(field.type, inspect.DictType) else field.type
        if isinstance(below, inspect.StructType):
            yield from numbers(below, f"{path}{field.name}.")
        elif isinstance(below, (inspect.IntType, inspect.FloatType)):
            yield f"{path}{field.name}", below


def test_every_number_has_a_least_and_a_most():
    found = dict(numbers(inspect.type_info(Settings)))
    assert len(found) >= 17
    assert [name for name, kind in found.items() if kind.ge is None and kind.gt is None] == []
    assert [name for name, kind in found.items() if kind.le is None and kind.lt is None] == []


def test_the_defaults_are_within_their_ranges():
    assert msgspec.convert(msgspec.to_builtins(Settings()), Settings) == Settings()
