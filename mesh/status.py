"""Errors on the wire: from a `TiationError` to a `google.rpc.Status`, and back from a callee's answer."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from mesh.errors import Code, TiationError

__all__ = ["DETAILS_KEY", "GRPC_CODES", "RemoteError", "remote_error", "status_of"]

DETAILS_KEY = "grpc-status-details-bin"
GRPC_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE = 2048


class RemoteError(TiationError):
    """What another service answered, with its own code, reason and metadata."""

    def __init__(self, code: Code, reason: str, domain: str, message: str, retry_after_s: float | None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.code = code  # type: ignore[misc]  # each instance carries the callee's own
        self.reason = reason  # type: ignore[misc]
        self.domain = domain  # type: ignore[misc]


def status_of(error: TiationError, domain: str) -> status_pb2.Status:
    """The error with exactly one ErrorInfo, and BadRequest, QuotaFailure or RetryInfo where they say more.

    Args:
        error: what went wrong.
        domain: the ErrorInfo's domain where the error names none.
    """
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=error.domain or domain, metadata=error.metadata)
    status = status_pb2.Status(code=int(error.code), message=error.message[:_MAX_MESSAGE])
    details = [info]
    if error.violations and error.code is Code.RESOURCE_EXHAUSTED:
        details.append(
            error_details_pb2.QuotaFailure(
                violations=[
                    error_details_pb2.QuotaFailure.Violation(subject=v.field, description=v.description)
                    for v in error.violations
                ]
            )
        )
    elif error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations
                ]
            )
        )
    if error.quota:
        details.append(
            error_details_pb2.QuotaFailure(
                violations=[
                    error_details_pb2.QuotaFailure.Violation(subject=used.subject, description=used.description)
                    for used in error.quota
                ]
            )
        )
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(retry)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def remote_error(error: grpc.aio.AioRpcError) -> RemoteError:
    """What a callee answered, as an error that may be raised further or looked into."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            status.ParseFromString(value)
    info = error_details_pb2.ErrorInfo()
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    code = Code(error.code().value[0] or Code.UNKNOWN)
    remote = RemoteError(code, info.reason or code.name, info.domain, error.details() or code.name, retry_after_s)
    remote.metadata = dict(info.metadata)
    return remote
