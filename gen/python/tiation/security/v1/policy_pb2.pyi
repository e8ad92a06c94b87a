import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tiation.mesh.v1 import options_pb2 as _options_pb2
from tiation.security.v1 import binding_pb2 as _binding_pb2
from tiation.security.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamPolicyRequest(_message.Message):
    __slots__ = ("since_revision", "deltas")
    SINCE_REVISION_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    since_revision: int
    deltas: bool
    def __init__(self, since_revision: _Optional[int] = ..., deltas: _Optional[bool] = ...) -> None: ...

class StreamPolicyResponse(_message.Message):
    __slots__ = ("revision", "snapshot", "delta")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    revision: int
    snapshot: PolicySnapshot
    delta: PolicyDelta
    def __init__(self, revision: _Optional[int] = ..., snapshot: _Optional[_Union[PolicySnapshot, _Mapping]] = ..., delta: _Optional[_Union[PolicyDelta, _Mapping]] = ...) -> None: ...

class PolicyDelta(_message.Message):
    __slots__ = ("base_revision", "changed", "removed")
    BASE_REVISION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    base_revision: int
    changed: PolicySnapshot
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, base_revision: _Optional[int] = ..., changed: _Optional[_Union[PolicySnapshot, _Mapping]] = ..., removed: _Optional[_Iterable[str]] = ...) -> None: ...

class PolicySnapshot(_message.Message):
    __slots__ = ("revision", "create_time", "jwks", "tenants", "roles", "bindings", "principals", "groups", "accounts", "quotas", "revocations")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    JWKS_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    BINDINGS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPALS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    create_time: _timestamp_pb2.Timestamp
    jwks: str
    tenants: _containers.RepeatedScalarFieldContainer[str]
    roles: _containers.RepeatedCompositeFieldContainer[PolicyRole]
    bindings: _containers.RepeatedCompositeFieldContainer[PolicyBinding]
    principals: _containers.RepeatedScalarFieldContainer[str]
    groups: _containers.RepeatedCompositeFieldContainer[PolicyGroup]
    accounts: _containers.RepeatedCompositeFieldContainer[PolicyAccount]
    quotas: _containers.RepeatedCompositeFieldContainer[PolicyQuota]
    revocations: _containers.RepeatedCompositeFieldContainer[PolicyRevocation]
    def __init__(self, revision: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., jwks: _Optional[str] = ..., tenants: _Optional[_Iterable[str]] = ..., roles: _Optional[_Iterable[_Union[PolicyRole, _Mapping]]] = ..., bindings: _Optional[_Iterable[_Union[PolicyBinding, _Mapping]]] = ..., principals: _Optional[_Iterable[str]] = ..., groups: _Optional[_Iterable[_Union[PolicyGroup, _Mapping]]] = ..., accounts: _Optional[_Iterable[_Union[PolicyAccount, _Mapping]]] = ..., quotas: _Optional[_Iterable[_Union[PolicyQuota, _Mapping]]] = ..., revocations: _Optional[_Iterable[_Union[PolicyRevocation, _Mapping]]] = ...) -> None: ...

class PolicyRole(_message.Message):
    __slots__ = ("name", "permissions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class PolicyBinding(_message.Message):
    __slots__ = ("name", "principal", "role", "resource", "member", "deny", "start_time", "expire_time", "condition")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    DENY_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    name: str
    principal: str
    role: str
    resource: str
    member: str
    deny: bool
    start_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    condition: _binding_pb2.Condition
    def __init__(self, name: _Optional[str] = ..., principal: _Optional[str] = ..., role: _Optional[str] = ..., resource: _Optional[str] = ..., member: _Optional[str] = ..., deny: _Optional[bool] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., condition: _Optional[_Union[_binding_pb2.Condition, _Mapping]] = ...) -> None: ...

class PolicyGroup(_message.Message):
    __slots__ = ("name", "members")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    members: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., members: _Optional[_Iterable[str]] = ...) -> None: ...

class PolicyAccount(_message.Message):
    __slots__ = ("name", "uid", "revoke_time", "limits")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    revoke_time: _timestamp_pb2.Timestamp
    limits: _limits_pb2.Limits
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., limits: _Optional[_Union[_limits_pb2.Limits, _Mapping]] = ...) -> None: ...

class PolicyQuota(_message.Message):
    __slots__ = ("name", "total", "each")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    EACH_FIELD_NUMBER: _ClassVar[int]
    name: str
    total: _limits_pb2.Limits
    each: _limits_pb2.Limits
    def __init__(self, name: _Optional[str] = ..., total: _Optional[_Union[_limits_pb2.Limits, _Mapping]] = ..., each: _Optional[_Union[_limits_pb2.Limits, _Mapping]] = ...) -> None: ...

class PolicyRevocation(_message.Message):
    __slots__ = ("uid", "revoke_time")
    UID_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    uid: str
    revoke_time: _timestamp_pb2.Timestamp
    def __init__(self, uid: _Optional[str] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
