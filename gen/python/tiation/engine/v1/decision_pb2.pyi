import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.api import client_pb2 as _client_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tiation.engine.v1 import model_pb2 as _model_pb2
from tiation.mesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Decision(_message.Message):
    __slots__ = ("name", "uid", "etag", "create_time", "update_time", "labels", "graph", "version", "examples", "aliases")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _model_pb2.Alias
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_model_pb2.Alias, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    graph: str
    version: int
    examples: _containers.RepeatedCompositeFieldContainer[DecisionExample]
    aliases: _containers.MessageMap[str, _model_pb2.Alias]
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., graph: _Optional[str] = ..., version: _Optional[int] = ..., examples: _Optional[_Iterable[_Union[DecisionExample, _Mapping]]] = ..., aliases: _Optional[_Mapping[str, _model_pb2.Alias]] = ...) -> None: ...

class DecisionExample(_message.Message):
    __slots__ = ("name", "input", "output", "exact")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    name: str
    input: _struct_pb2.Struct
    output: _struct_pb2.Struct
    exact: bool
    def __init__(self, name: _Optional[str] = ..., input: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., output: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., exact: _Optional[bool] = ...) -> None: ...

class DecisionVersion(_message.Message):
    __slots__ = ("name", "uid", "etag", "create_time", "update_time", "labels", "version", "graph", "examples")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    version: int
    graph: str
    examples: _containers.RepeatedCompositeFieldContainer[DecisionExample]
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., version: _Optional[int] = ..., graph: _Optional[str] = ..., examples: _Optional[_Iterable[_Union[DecisionExample, _Mapping]]] = ...) -> None: ...

class GetDecisionVersionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListDecisionVersionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDecisionVersionsResponse(_message.Message):
    __slots__ = ("decision_versions", "next_page_token")
    DECISION_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    decision_versions: _containers.RepeatedCompositeFieldContainer[DecisionVersion]
    next_page_token: str
    def __init__(self, decision_versions: _Optional[_Iterable[_Union[DecisionVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class TestDecisionRequest(_message.Message):
    __slots__ = ("name", "version", "graph", "examples")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    graph: str
    examples: _containers.RepeatedCompositeFieldContainer[DecisionExample]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., graph: _Optional[str] = ..., examples: _Optional[_Iterable[_Union[DecisionExample, _Mapping]]] = ...) -> None: ...

class TestDecisionResponse(_message.Message):
    __slots__ = ("version", "passed_count", "failed_count", "results", "unused_rules")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PASSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    UNUSED_RULES_FIELD_NUMBER: _ClassVar[int]
    version: int
    passed_count: int
    failed_count: int
    results: _containers.RepeatedCompositeFieldContainer[ExampleResult]
    unused_rules: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., passed_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., results: _Optional[_Iterable[_Union[ExampleResult, _Mapping]]] = ..., unused_rules: _Optional[_Iterable[str]] = ...) -> None: ...

class ExampleResult(_message.Message):
    __slots__ = ("name", "passed", "result", "differences", "error", "steps")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    passed: bool
    result: _struct_pb2.Struct
    differences: _containers.RepeatedScalarFieldContainer[str]
    error: str
    steps: _containers.RepeatedCompositeFieldContainer[DecisionStep]
    def __init__(self, name: _Optional[str] = ..., passed: _Optional[bool] = ..., result: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., differences: _Optional[_Iterable[str]] = ..., error: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[DecisionStep, _Mapping]]] = ...) -> None: ...

class GetDecisionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListDecisionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDecisionsResponse(_message.Message):
    __slots__ = ("decisions", "next_page_token")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    next_page_token: str
    def __init__(self, decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CreateDecisionRequest(_message.Message):
    __slots__ = ("parent", "decision_id", "decision", "request_id", "validate_only")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    decision_id: str
    decision: Decision
    request_id: str
    validate_only: bool
    def __init__(self, parent: _Optional[str] = ..., decision_id: _Optional[str] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdateDecisionRequest(_message.Message):
    __slots__ = ("decision", "update_mask", "validate_only")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class DeleteDecisionRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("name", "input", "version", "trace", "alias", "sticky_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    STICKY_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    input: _struct_pb2.Struct
    version: int
    trace: bool
    alias: str
    sticky_key: str
    def __init__(self, name: _Optional[str] = ..., input: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., version: _Optional[int] = ..., trace: _Optional[bool] = ..., alias: _Optional[str] = ..., sticky_key: _Optional[str] = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("result", "version", "trace", "steps")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    result: _struct_pb2.Struct
    version: int
    trace: _struct_pb2.Struct
    steps: _containers.RepeatedCompositeFieldContainer[DecisionStep]
    def __init__(self, result: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., version: _Optional[int] = ..., trace: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[DecisionStep, _Mapping]]] = ...) -> None: ...

class DecisionStep(_message.Message):
    __slots__ = ("node", "title", "type", "text", "rules")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    node: str
    title: str
    type: str
    text: str
    rules: _containers.RepeatedCompositeFieldContainer[FiredRule]
    def __init__(self, node: _Optional[str] = ..., title: _Optional[str] = ..., type: _Optional[str] = ..., text: _Optional[str] = ..., rules: _Optional[_Iterable[_Union[FiredRule, _Mapping]]] = ...) -> None: ...

class FiredRule(_message.Message):
    __slots__ = ("id", "number", "description", "matched")
    class MatchedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    id: str
    number: int
    description: str
    matched: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[str] = ..., number: _Optional[int] = ..., description: _Optional[str] = ..., matched: _Optional[_Mapping[str, str]] = ...) -> None: ...

class BatchDecideRequest(_message.Message):
    __slots__ = ("name", "inputs", "version", "alias", "sticky_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    STICKY_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    inputs: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    version: int
    alias: str
    sticky_key: str
    def __init__(self, name: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., version: _Optional[int] = ..., alias: _Optional[str] = ..., sticky_key: _Optional[str] = ...) -> None: ...

class BatchDecideResponse(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[DecideResponse]
    def __init__(self, answers: _Optional[_Iterable[_Union[DecideResponse, _Mapping]]] = ...) -> None: ...
