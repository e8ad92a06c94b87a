"""What can go wrong in security, one class per cause."""

from __future__ import annotations

from mesh.errors import Code, TiationError

__all__ = [
    "ApiKeyInvalidError",
    "BuiltInError",
    "GrantTooLargeError",
    "GroupCircleError",
    "RecordForgedError",
    "RequestInvalidError",
    "RoleInUseError",
    "SecurityError",
]


class SecurityError(TiationError):
    """The base of everything that security raises."""

    domain = "security.tiation.dev"


class BuiltInError(SecurityError):
    """What ships with the platform stays."""

    code = Code.FAILED_PRECONDITION
    reason = "RESOURCE_BUILT_IN"

    def __init__(self, name: str, what: str = "deleted") -> None:
        super().__init__(f"{name} belongs to the platform and cannot be {what}", resource=name)


class GrantTooLargeError(SecurityError):
    """Somebody gives away more than they have."""

    code = Code.PERMISSION_DENIED
    reason = "GRANT_TOO_LARGE"


class RoleInUseError(SecurityError):
    """The role is bound."""

    code = Code.FAILED_PRECONDITION
    reason = "ROLE_IN_USE"


class GroupCircleError(SecurityError):
    """Groups would contain each other, or nest too deep."""

    code = Code.FAILED_PRECONDITION
    reason = "GROUP_NESTING"


class ApiKeyInvalidError(SecurityError):
    """The key is unknown, ended, of another tenant, or its principal may not act. Which one is not said."""

    code = Code.UNAUTHENTICATED
    reason = "API_KEY_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "the API key is not valid for this tenant, or there is no such tenant; `tiation tenants list` shows those "
            "that there are, `tiation keys create` makes a key"
        )


class RequestInvalidError(SecurityError):
    """The signing request cannot be used."""

    code = Code.INVALID_ARGUMENT
    reason = "SIGNING_REQUEST_INVALID"


class RecordForgedError(SecurityError):
    """A service hands over records of another one's calls."""

    code = Code.PERMISSION_DENIED
    reason = "RECORD_FORGED"
