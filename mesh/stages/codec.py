"""How messages stand on the wire: as protobuf, or as JSON where a Connect client speaks JSON to the front proxy.

The proxy says in a header of its own which of the two a call uses.
"""

from __future__ import annotations

import json

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from mesh.call import Call
from mesh.json_value import message_to_json
from mesh.stages.errors import MalformedRequestError, RequestTooLargeError

__all__ = ["CODEC_HEADER", "decode", "encode", "serialized"]

CODEC_HEADER = "x-tiation-content-type"
"""The call's content type; set by the front proxy, which lets no client's own through."""
_JSON = "+json"
_MAX_DEPTH = 64
_AROUND_BYTES = 64 * 1024
"""What a message may hold besides a body whose size its contract limits."""


def decode(call: Call, data: bytes) -> Message:
    """The request's message.

    Raises:
        MalformedRequestError: the bytes are none.
        RequestTooLargeError: they are more than the method's contract allows.
    """
    limit = call.method.max_body_bytes
    if limit and len(data) > limit + _AROUND_BYTES:
        raise RequestTooLargeError(f"the request has {len(data)} bytes; its body may have {limit}")
    kind = call.method.request
    try:
        if _speaks_json(call):
            return json_format.Parse(data, kind(), max_recursion_depth=_MAX_DEPTH)
        return kind.FromString(data)
    except DecodeError:
        raise MalformedRequestError(f"the request is no {kind.DESCRIPTOR.full_name}") from None
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise MalformedRequestError(f"the request is no {kind.DESCRIPTOR.full_name}: {said}") from None


def encode(call: Call, answer: Message) -> bytes:
    """The answer's bytes."""
    if _speaks_json(call):
        return json.dumps(message_to_json(answer), separators=(",", ":")).encode()
    return answer.SerializeToString()


def serialized(answer: Message | bytes) -> bytes:
    """What grpc asks for: bytes stay, messages of servicers that write to the stream themselves become bytes."""
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _speaks_json(call: Call) -> bool:
    return call.metadata.get(CODEC_HEADER, "").endswith(_JSON)
