"""What can go wrong between us and another system, one class per cause."""

from __future__ import annotations

from mesh.errors import Code, TiationError

__all__ = [
    "AnswerInvalidError",
    "AnswerTooLargeError",
    "CallRefusedError",
    "CallTimeoutError",
    "ConnectorUnknownError",
    "CredentialUnknownError",
    "DeliveryDeferredError",
    "DeliveryInvalidError",
    "EffectKeyReusedError",
    "ExpressionFailedError",
    "IntegrationError",
    "LocationForbiddenError",
    "OperationInvalidError",
    "OperationUnknownError",
    "OutcomeUnknownError",
    "RateLimitedError",
    "SignatureInvalidError",
    "SystemRefusedError",
    "SystemUnavailableError",
    "WebhookBusyError",
    "WebhookUnknownError",
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


class CallRefusedError(SystemRefusedError):
    """A gRPC server refuses a call and has done nothing; the code is the server's own."""

    def __init__(self, code: Code, message: str, *, remote_reason: str) -> None:
        super().__init__(message, grpc_code=code.name, remote_reason=remote_reason)
        self.code = code  # type: ignore[misc]  # each instance carries the server's own


class SystemUnavailableError(IntegrationError):
    """The other system cannot be reached or is busy."""

    code = Code.UNAVAILABLE
    reason = "SYSTEM_UNAVAILABLE"
    may_pass = True


class CallTimeoutError(IntegrationError):
    """The other system took longer than the operation may take; `outcome_known` says whether it may have done it."""

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


class AnswerInvalidError(IntegrationError):
    """What the other system answered is not what it said it would be: no HTTP, no JSON, nothing of the kind."""

    code = Code.FAILED_PRECONDITION
    reason = "ANSWER_INVALID"


class ExpressionFailedError(IntegrationError):
    """An expression of a manifest did not come to a value; code and reason are the sandbox's."""

    def __init__(self, cause: TiationError, *, outcome_known: bool) -> None:
        super().__init__(cause.message, retry_after_s=cause.retry_after_s)
        self.metadata = dict(cause.metadata)
        self.code = cause.code  # type: ignore[misc]  # each instance carries its cause's own
        self.reason = cause.reason  # type: ignore[misc]
        self.outcome_known = outcome_known


class OutcomeUnknownError(IntegrationError):
    """The other system was asked for something that must not happen twice, and nobody can say whether it happened."""

    code = Code.UNKNOWN
    reason = "OUTCOME_UNKNOWN"
    outcome_known = False


class RateLimitedError(IntegrationError):
    """The other system takes no more calls for now; `retry_after_s` says how long.

    Attributes:
        said_by_system: true where the system itself has said so, false where our own limits do.
    """

    code = Code.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"
    said_by_system = False


class DeliveryDeferredError(IntegrationError):
    """A webhook's receiver does not take it for now; `retry_after_s` says when the same one is to be sent again."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "DELIVERY_DEFERRED"


class WebhookUnknownError(IntegrationError):
    """There is no such webhook, it is another tenant's, or it is disabled: the answer is the same."""

    code = Code.NOT_FOUND
    reason = "WEBHOOK_UNKNOWN"

    def __init__(self) -> None:
        super().__init__("nothing is received here")


class SignatureInvalidError(IntegrationError):
    """A request to a webhook was not signed by anybody who knows a secret, or not lately: the answer is the same."""

    code = Code.UNAUTHENTICATED
    reason = "SIGNATURE_INVALID"

    def __init__(self) -> None:
        super().__init__("the signature does not hold")


class DeliveryInvalidError(IntegrationError):
    """A request to a webhook holds, but cannot become the input of a run."""

    code = Code.INVALID_ARGUMENT
    reason = "DELIVERY_INVALID"


class WebhookBusyError(IntegrationError):
    """More is sent to webhooks than can be taken for now."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "WEBHOOK_BUSY"
