from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dialect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIALECT_UNSPECIFIED: _ClassVar[Dialect]
    OPEN_INFERENCE: _ClassVar[Dialect]
    OPENAI: _ClassVar[Dialect]
DIALECT_UNSPECIFIED: Dialect
OPEN_INFERENCE: Dialect
OPENAI: Dialect
ACCESS_FIELD_NUMBER: _ClassVar[int]
access: _descriptor.FieldDescriptor
RECORD_FIELD_NUMBER: _ClassVar[int]
record: _descriptor.FieldDescriptor
TIMEOUT_FIELD_NUMBER: _ClassVar[int]
timeout: _descriptor.FieldDescriptor
MAX_BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
max_body_bytes: _descriptor.FieldDescriptor
SPARSE_FIELD_NUMBER: _ClassVar[int]
sparse: _descriptor.FieldDescriptor
DIALECT_FIELD_NUMBER: _ClassVar[int]
dialect: _descriptor.FieldDescriptor
SECRET_FIELD_NUMBER: _ClassVar[int]
secret: _descriptor.FieldDescriptor

class Access(_message.Message):
    __slots__ = ("permission", "resource", "callers", "visibility", "anyone", "platform", "template")
    class Visibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VISIBILITY_UNSPECIFIED: _ClassVar[Access.Visibility]
        PUBLIC: _ClassVar[Access.Visibility]
        INTERNAL: _ClassVar[Access.Visibility]
    VISIBILITY_UNSPECIFIED: Access.Visibility
    PUBLIC: Access.Visibility
    INTERNAL: Access.Visibility
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    CALLERS_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    ANYONE_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    permission: str
    resource: str
    callers: _containers.RepeatedScalarFieldContainer[str]
    visibility: Access.Visibility
    anyone: bool
    platform: bool
    template: str
    def __init__(self, permission: _Optional[str] = ..., resource: _Optional[str] = ..., callers: _Optional[_Iterable[str]] = ..., visibility: _Optional[_Union[Access.Visibility, str]] = ..., anyone: _Optional[bool] = ..., platform: _Optional[bool] = ..., template: _Optional[str] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("category",)
    class Category(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CATEGORY_UNSPECIFIED: _ClassVar[Record.Category]
        READ: _ClassVar[Record.Category]
        WRITE: _ClassVar[Record.Category]
        EXECUTE: _ClassVar[Record.Category]
        NONE: _ClassVar[Record.Category]
    CATEGORY_UNSPECIFIED: Record.Category
    READ: Record.Category
    WRITE: Record.Category
    EXECUTE: Record.Category
    NONE: Record.Category
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    category: Record.Category
    def __init__(self, category: _Optional[_Union[Record.Category, str]] = ...) -> None: ...
