from buf.validate import validate_pb2 as _validate_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Limits(_message.Message):
    __slots__ = ("requests_per_second", "burst", "concurrent_calls")
    REQUESTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_CALLS_FIELD_NUMBER: _ClassVar[int]
    requests_per_second: int
    burst: int
    concurrent_calls: int
    def __init__(self, requests_per_second: _Optional[int] = ..., burst: _Optional[int] = ..., concurrent_calls: _Optional[int] = ...) -> None: ...
