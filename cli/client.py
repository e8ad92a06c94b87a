"""How the command talks to the platform: through the front door, with the generated stubs, like any other client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2, status_pb2
from tiation.security.v1 import token_pb2, token_pb2_grpc

from cli.home import Home
from mesh.errors import Code, TiationError
from mesh.json_value import fault_of_json

__all__ = [
    "BREAKS",
    "TIMEOUT_S",
    "FileError",
    "Refusal",
    "access_token",
    "connect",
    "explain",
    "pages",
    "parse",
    "persist",
    "refusal_of",
]

A = TypeVar("A")
M = TypeVar("M", bound=Message)
TIMEOUT_S = 60.0
_PERSIST_S = 20.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
BREAKS = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
"""How a stream ends whose process was killed, as seen through the front proxy: the next one takes its place."""
_TOKEN_REUSE_S = 60.0
_READMITTED_S = 5.0
_UNSENT = "no healthy upstream"
"""What Envoy says of a call that it had nobody to send to."""
_KEPT_TENANT = "default"
"""The tenant of the access token that the supervisor keeps fresh in the home."""
_FOR_ALL = "system"
"""The tenant that every other one may read; who acts in it may look after the platform itself."""


class FileError(TiationError):
    """A file that the command was given cannot be used."""

    code = Code.INVALID_ARGUMENT
    reason = "FILE_INVALID"


@contextmanager
def connect(
    home: Home, stub: Callable[[Any], object], tenant: str = _KEPT_TENANT, *, token: str | None = None
) -> Iterator[Any]:
    """A stub on a channel to the front door, for calls that block; the generated types know asynchronous ones only.

    Args:
        home: of the platform.
        stub: the generated class.
        tenant: the id of the tenant to act in; empty for the platform itself.
        token: an access token; None for one of the operator in that tenant, empty for none.

    Raises:
        NotRunningError: the platform does not run.
        KeyMissingError: the home has no operator's key.
    """
    gateway = home.gateway()
    credentials = grpc.ssl_channel_credentials(home.ca.read_bytes())
    if token is None:
        kept = grpc.metadata_call_credentials(_FreshToken(home, tenant))
        credentials = grpc.composite_channel_credentials(credentials, kept)
    elif token:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    with grpc.secure_channel(str(gateway["url"]).removeprefix("https://"), credentials, options=options) as channel:
        yield stub(grpc.intercept_channel(channel, Patience()))


class Patience(grpc.UnaryUnaryClientInterceptor):
    """Makes a call again that reached nobody: the front door takes a service back a moment after it serves again."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:  # noqa: ANN401 -- grpc's own
        deadline = time.monotonic() + min(_READMITTED_S, details.timeout or _READMITTED_S)
        while True:
            call = continuation(details, request)
            unsent = call.code() is grpc.StatusCode.UNAVAILABLE and call.details() == _UNSENT
            if not unsent or time.monotonic() > deadline:
                return call
            time.sleep(_FIRST_PAUSE_S)


class _FreshToken(grpc.AuthMetadataPlugin):
    """Gives each call a token that has minutes left: a command may last longer than any token.

    Raises:
        NotRunningError, KeyMissingError: as `connect`, when it is made.
    """

    def __init__(self, home: Home, tenant: str) -> None:
        self._home = home
        self._tenant = tenant
        self._taken = time.monotonic()
        self._token = access_token(home, tenant)

    def __call__(self, _: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            if time.monotonic() - self._taken > _TOKEN_REUSE_S:
                self._token, self._taken = access_token(self._home, self._tenant), time.monotonic()
        except (OSError, TiationError, grpc.RpcError):
            pass  # the platform is just being started again: the old one may still do
        callback((("authorization", f"Bearer {self._token}"),), None)


def access_token(home: Home, tenant: str, timeout_s: float = TIMEOUT_S) -> str:
    """A token of the operator: the home's own where that will do, else one for the tenant.

    Args:
        home: of the platform.
        tenant: the id of the tenant to act in; empty for the platform itself.
        timeout_s: the longest that asking for one may take.
    """
    if tenant in (_KEPT_TENANT, _FOR_ALL):
        return home.token_file.read_text().strip()
    request = token_pb2.ExchangeApiKeyRequest(parent=f"tenants/{tenant or _FOR_ALL}", api_key=home.key())
    with connect(home, token_pb2_grpc.TokenServiceStub, token="") as stub:
        return str(stub.ExchangeApiKey(request, timeout=timeout_s).token)


def pages(method: Callable[..., Any], request: Any, field: str) -> Iterator[Any]:  # noqa: ANN401 -- any list method
    """Every item of a list, page after page."""
    request.page_size = 1000
    while True:
        answer = method(request, timeout=TIMEOUT_S)
        yield from getattr(answer, field)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def parse(given: Any, message: M, source: str) -> M:  # noqa: ANN401 -- any JSON
    """A message from JSON that an option gave.

    Raises:
        FileError: it does not fit the contract.
    """
    if fault := fault_of_json(given, exact=True):
        raise FileError(f"{source} {fault}")
    if isinstance(message, Struct) and not isinstance(given, dict):
        raise FileError(f'{source} must be a JSON object, like {{"name": "value"}}')
    try:
        return json_format.ParseDict(given, message)
    except json_format.ParseError as error:
        raise FileError(f"{source}: {error}") from None


def persist(call: Callable[[], A]) -> A:
    """Ask until there is an answer, for some seconds: a service that was just killed is soon back.

    Args:
        call: something that may be asked twice, because it carries a request id or changes nothing.

    Raises:
        grpc.RpcError: what it said at last.
    """
    deadline, pause_s = time.monotonic() + _PERSIST_S, _FIRST_PAUSE_S
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            failed: Any = error
            if failed.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a service said when it refused.

    Attributes:
        code: the status, `NOT_FOUND` for example.
        reason: the cause, for programs.
        message: for people.
        violations: what is wrong with which field.
    """

    code: str
    reason: str
    message: str
    violations: tuple[tuple[str, str], ...] = ()


def refusal_of(error: Any) -> Refusal | None:  # noqa: ANN401 -- any exception
    """What a service answered; None where the error is none of a service."""
    if not isinstance(error, grpc.RpcError):
        return None
    failed: Any = error
    code, message = failed.code(), failed.details() or ""
    status = status_pb2.Status()
    for key, value in failed.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    reason = code.name
    violations: tuple[tuple[str, str], ...] = ()
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason = info.reason
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = tuple((each.field, each.description) for each in bad.field_violations)
    if code is grpc.StatusCode.UNAVAILABLE and not status.details:
        message = f"the platform does not answer ({message}); `tiation status` says more"
    return Refusal(code.name, reason, message, violations)


def explain(refusal: Refusal) -> str:
    """A refusal as people read it."""
    lines = [f"\n  {field}: {description}" for field, description in refusal.violations]
    return f"{refusal.message} [{refusal.reason}]" + "".join(lines if len(lines) > 1 else [])
