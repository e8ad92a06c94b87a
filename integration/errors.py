"""What can go wrong between us and another system, one class per cause."""

from __future__ import annotations

from mesh.errors import Code, TiationError

__all__ = [
    "AnswerTooLargeError",
    "CallTimeoutError",
    "ConnectorUnknownError",
    "CredentialUnknownError",
    "EffectKeyReusedError",
    "IntegrationError",
    "LocationForbiddenError",
    "OperationInvalidError",
    "OperationUnknownError",
    "SystemRefusedError",
    "SystemUnavailableError",
]


class IntegrationError(TiationError):
    """The base of everything that integration raises.

    Attributes:
        may_pass: true where the same call may succeed a moment later.
        outcome_known: true where the call certainly had no effect.
    """

    domain = "integration.tiation.dev"
    may_pass = False
    outcome_known = True


class ConnectorUnknownError(IntegrationError):
    """There is no such connector."""

    code = Code.INVALID_ARGUMENT
    reason = "CONNECTOR_UNKNOWN"


class CredentialUnknownError(IntegrationError):
    """The connector has no use for a credential of this name."""

    code = Code.INVALID_ARGUMENT
    reason = "CREDENTIAL_UNKNOWN"


class LocationForbiddenError(IntegrationError):
    """The operator has not allowed connections to go there."""

    code = Code.INVALID_ARGUMENT
    reason = "LOCATION_FORBIDDEN"


class OperationInvalidError(IntegrationError):
    """An operation's specification is wrong."""

    code = Code.INVALID_ARGUMENT
    reason = "OPERATION_INVALID"


class OperationUnknownError(IntegrationError):
    """The connection has no such operation."""

    code = Code.NOT_FOUND
    reason = "OPERATION_UNKNOWN"


class SystemRefusedError(IntegrationError):
    """The other system does not accept what it was asked; asking again changes nothing."""

    code = Code.FAILED_PRECONDITION
    reason = "SYSTEM_REFUSED"


class SystemUnavailableError(IntegrationError):
    """The other system cannot be reached or is busy."""

    code = Code.UNAVAILABLE
    reason = "SYSTEM_UNAVAILABLE"
    may_pass = True


class CallTimeoutError(IntegrationError):
    """The other system took longer than the operation may take; what it did was undone."""

    code = Code.DEADLINE_EXCEEDED
    reason = "SYSTEM_TIMEOUT"
    may_pass = True


class AnswerTooLargeError(IntegrationError):
    """The other system answered more than a call may return."""

    code = Code.FAILED_PRECONDITION
    reason = "ANSWER_TOO_LARGE"


class EffectKeyReusedError(IntegrationError):
    """The effect key was used for another operation or another input."""

    code = Code.ALREADY_EXISTS
    reason = "EFFECT_KEY_REUSED"
