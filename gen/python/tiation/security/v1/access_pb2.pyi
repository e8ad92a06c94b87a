from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.api import client_pb2 as _client_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from tiation.mesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccessQuery(_message.Message):
    __slots__ = ("principal", "permission", "resource")
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    principal: str
    permission: str
    resource: str
    def __init__(self, principal: _Optional[str] = ..., permission: _Optional[str] = ..., resource: _Optional[str] = ...) -> None: ...

class CheckAccessRequest(_message.Message):
    __slots__ = ("parent", "query")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    query: AccessQuery
    def __init__(self, parent: _Optional[str] = ..., query: _Optional[_Union[AccessQuery, _Mapping]] = ...) -> None: ...

class CheckAccessResponse(_message.Message):
    __slots__ = ("allowed", "policy_revision")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    policy_revision: int
    def __init__(self, allowed: _Optional[bool] = ..., policy_revision: _Optional[int] = ...) -> None: ...

class BatchCheckAccessRequest(_message.Message):
    __slots__ = ("parent", "queries")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    parent: str
    queries: _containers.RepeatedCompositeFieldContainer[AccessQuery]
    def __init__(self, parent: _Optional[str] = ..., queries: _Optional[_Iterable[_Union[AccessQuery, _Mapping]]] = ...) -> None: ...

class BatchCheckAccessResponse(_message.Message):
    __slots__ = ("allowed", "policy_revision")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    allowed: _containers.RepeatedScalarFieldContainer[bool]
    policy_revision: int
    def __init__(self, allowed: _Optional[_Iterable[bool]] = ..., policy_revision: _Optional[int] = ...) -> None: ...

class TestPermissionsRequest(_message.Message):
    __slots__ = ("parent", "resource", "permissions")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    parent: str
    resource: str
    permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parent: _Optional[str] = ..., resource: _Optional[str] = ..., permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class TestPermissionsResponse(_message.Message):
    __slots__ = ("permissions", "policy_revision")
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    permissions: _containers.RepeatedScalarFieldContainer[str]
    policy_revision: int
    def __init__(self, permissions: _Optional[_Iterable[str]] = ..., policy_revision: _Optional[int] = ...) -> None: ...

class ExplainAccessRequest(_message.Message):
    __slots__ = ("parent", "query")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    query: AccessQuery
    def __init__(self, parent: _Optional[str] = ..., query: _Optional[_Union[AccessQuery, _Mapping]] = ...) -> None: ...

class ExplainAccessResponse(_message.Message):
    __slots__ = ("allowed", "reason", "rule", "near_misses", "policy_revision")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    NEAR_MISSES_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    reason: str
    rule: AccessRule
    near_misses: _containers.RepeatedCompositeFieldContainer[AccessRule]
    policy_revision: int
    def __init__(self, allowed: _Optional[bool] = ..., reason: _Optional[str] = ..., rule: _Optional[_Union[AccessRule, _Mapping]] = ..., near_misses: _Optional[_Iterable[_Union[AccessRule, _Mapping]]] = ..., policy_revision: _Optional[int] = ...) -> None: ...

class AccessRule(_message.Message):
    __slots__ = ("binding", "role", "resource", "group_path", "lacks")
    BINDING_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    GROUP_PATH_FIELD_NUMBER: _ClassVar[int]
    LACKS_FIELD_NUMBER: _ClassVar[int]
    binding: str
    role: str
    resource: str
    group_path: _containers.RepeatedScalarFieldContainer[str]
    lacks: str
    def __init__(self, binding: _Optional[str] = ..., role: _Optional[str] = ..., resource: _Optional[str] = ..., group_path: _Optional[_Iterable[str]] = ..., lacks: _Optional[str] = ...) -> None: ...
