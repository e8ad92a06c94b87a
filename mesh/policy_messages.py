"""The policy on the wire: from plain data to messages, as security sends it, and back, as services take it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from tiation.security.v1 import binding_pb2, limits_pb2, policy_pb2

from mesh.snapshot import (
    Account,
    Binding,
    Condition,
    Delta,
    Group,
    Limits,
    Quota,
    Revocation,
    Role,
    Snapshot,
    TimeWindow,
)

__all__ = [
    "condition_message",
    "delta_message",
    "limits_message",
    "read_condition",
    "read_delta",
    "read_limits",
    "read_snapshot",
    "snapshot_message",
]


def snapshot_message(snapshot: Snapshot) -> policy_pb2.PolicySnapshot:
    """A policy, or a part of one, as a message."""
    message = policy_pb2.PolicySnapshot(
        revision=snapshot.revision,
        jwks=snapshot.jwks,
        tenants=snapshot.tenants,
        principals=snapshot.principals,
        roles=[policy_pb2.PolicyRole(name=role.name, permissions=role.permissions) for role in snapshot.roles],
        bindings=[_binding_message(binding) for binding in snapshot.bindings],
        groups=[policy_pb2.PolicyGroup(name=group.name, members=group.members) for group in snapshot.groups],
        accounts=[
            policy_pb2.PolicyAccount(
                name=account.name,
                uid=account.uid,
                revoke_time=_moment(account.revoked),
                limits=limits_message(account.limits),
            )
            for account in snapshot.accounts
        ],
        quotas=[
            policy_pb2.PolicyQuota(name=quota.name, total=limits_message(quota.total), each=limits_message(quota.each))
            for quota in snapshot.quotas
        ],
        revocations=[
            policy_pb2.PolicyRevocation(uid=key.uid, revoke_time=_moment(key.at)) for key in snapshot.revocations
        ],
    )
    message.create_time.GetCurrentTime()
    return message


def read_snapshot(message: policy_pb2.PolicySnapshot) -> Snapshot:
    """A policy, or a part of one, from its message."""
    return Snapshot(
        revision=message.revision,
        jwks=message.jwks,
        tenants=tuple(message.tenants),
        roles=tuple(Role(role.name, tuple(role.permissions)) for role in message.roles),
        bindings=tuple(map(_read_binding, message.bindings)),
        principals=tuple(message.principals),
        groups=tuple(Group(group.name, tuple(group.members)) for group in message.groups),
        accounts=tuple(
            Account(
                account.name,
                account.uid,
                _seconds(account, "revoke_time"),
                read_limits(account.limits) if account.HasField("limits") else None,
            )
            for account in message.accounts
        ),
        quotas=tuple(
            Quota(
                quota.name,
                read_limits(quota.total) if quota.HasField("total") else None,
                read_limits(quota.each) if quota.HasField("each") else None,
            )
            for quota in message.quotas
        ),
        revocations=tuple(Revocation(key.uid, _seconds(key, "revoke_time")) for key in message.revocations),
    )


def delta_message(delta: Delta) -> policy_pb2.PolicyDelta:
    """A change as a message."""
    return policy_pb2.PolicyDelta(
        base_revision=delta.base, changed=snapshot_message(delta.changed), removed=delta.removed
    )


def read_delta(message: policy_pb2.PolicyDelta) -> Delta:
    """A change from its message."""
    return Delta(message.base_revision, read_snapshot(message.changed), tuple(message.removed))


def limits_message(limits: Limits | None) -> limits_pb2.Limits | None:
    """Limits as a message."""
    if limits is None:
        return None
    return limits_pb2.Limits(
        requests_per_second=limits.requests_per_second, burst=limits.burst, concurrent_calls=limits.concurrent_calls
    )


def read_limits(message: limits_pb2.Limits) -> Limits:
    """Limits from their message."""
    return Limits(message.requests_per_second, message.burst, message.concurrent_calls)


def condition_message(condition: Condition | None) -> binding_pb2.Condition | None:
    """A condition as a message."""
    if condition is None:
        return None
    return binding_pb2.Condition(
        time_windows=[
            binding_pb2.TimeWindow(
                days=[binding_pb2.TimeWindow.Day.Name(day) for day in window.days],
                start=window.start,
                end=window.end,
                time_zone=window.time_zone,
            )
            for window in condition.time_windows
        ],
        resource_prefix=condition.resource_prefix,
    )


def read_condition(message: binding_pb2.Condition) -> Condition:
    """A condition from its message."""
    return Condition(
        tuple(
            TimeWindow(tuple(window.days), window.start, window.end, window.time_zone)
            for window in message.time_windows
        ),
        message.resource_prefix,
    )


def _binding_message(binding: Binding) -> policy_pb2.PolicyBinding:
    return policy_pb2.PolicyBinding(
        name=binding.name,
        principal=binding.principal,
        role=binding.role,
        resource=binding.resource,
        member=binding.member,
        deny=binding.deny,
        start_time=_moment(binding.start),
        expire_time=_moment(binding.expire),
        condition=condition_message(binding.condition),
    )


def _read_binding(message: policy_pb2.PolicyBinding) -> Binding:
    if message.principal:
        return Binding(message.name, message.principal, message.role, message.resource)
    return Binding(
        message.name,
        "",
        message.role,
        message.resource,
        message.member,
        message.deny,
        _seconds(message, "start_time"),
        _seconds(message, "expire_time"),
        read_condition(message.condition) if message.HasField("condition") else None,
    )


def _moment(seconds: float) -> Timestamp | None:
    if not seconds:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromtimestamp(seconds, UTC))
    return stamp


def _seconds(message: Any, field: str) -> float:  # noqa: ANN401 -- any message with the field
    if not message.HasField(field):
        return 0.0
    moment: Timestamp = getattr(message, field)
    return moment.seconds + moment.nanos / 1e9
