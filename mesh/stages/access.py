"""Whether the caller may do what it asks, on the resource that the request names.

The decision itself is `mesh.policy`'s; this stage finds the resource and holds tenants apart.
"""

from __future__ import annotations

import time
from functools import cache, lru_cache

from google.protobuf.message import Message

from mesh.call import Call
from mesh.errors import Code, InvalidError, TiationError
from mesh.identity import SYSTEM_TENANT, Caller
from mesh.methods import Method
from mesh.policy import PLATFORM, Decision, Policy, is_shared
from mesh.policy_holder import PolicyHolder
from mesh.resource import fits, tenant_of
from mesh.tokens import TokenExpiredError, TokenRevokedError

__all__ = ["EXPLAIN", "AccessStage", "PermissionDeniedError", "ResourceNotFoundError"]

EXPLAIN = "security.access.explain"
"""Who has this permission is told by which rule a call was denied."""
_SHORT = 256
"""What names of so many characters stand for is remembered."""


class PermissionDeniedError(TiationError):
    """The caller is known and may not do this here."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class ResourceNotFoundError(TiationError):
    """The resource belongs to another tenant, or does not exist: the answer is the same."""

    code = Code.NOT_FOUND
    reason = "RESOURCE_NOT_FOUND"


class AccessStage:
    """Asks the policy.

    Args:
        holder: the policy that holds now.
    """

    def __init__(self, holder: PolicyHolder) -> None:
        self._holder = holder

    def run(self, call: Call, request: Message) -> None:
        """Let the call pass, or say why not.

        Raises:
            InvalidError: the resource's name is malformed.
            ResourceNotFoundError: the resource is another tenant's.
            PermissionDeniedError: the policy says no.
            TokenRevokedError: the caller's token was taken back.
            TokenExpiredError: it has ended since the call began.
            PolicyStaleError: there is no policy to ask, or it is too old for a write.
        """
        method, caller = call.method, call.caller
        assert caller is not None  # noqa: S101 -- the identity stage ran before
        call.resource = _resource(method, request, caller.tenant)
        if method.anyone or caller.is_service:
            call.decision = "contract"
            return
        policy = self._holder.policy(for_write=method.is_write)
        call.policy_revision = policy.revision
        tenant = tenant_of(call.resource)
        shared = tenant == SYSTEM_TENANT and is_shared(method.permission)
        of_platform = method.platform or (caller.tenant == SYSTEM_TENANT and method.is_of_tenants)
        if tenant != caller.tenant and not shared and not of_platform:
            raise ResourceNotFoundError("there is no such resource, or it is not yours to see")
        self._decide(call, caller, policy, PLATFORM if of_platform else call.resource)

    def also(self, call: Call, resource: str) -> None:
        """Let a call pass on a resource that only the body names, after it passed on what its contract names.

        From then on the call is about that resource.

        Args:
            call: the call, which this stage has let pass.
            resource: a whole name, in the caller's own tenant or shared with it.

        Raises:
            PermissionDeniedError: the policy says no.
            TokenRevokedError: the caller's token was taken back.
            TokenExpiredError: it has ended since the call began.
            PolicyStaleError: there is no policy to ask, or it is too old for a write.
        """
        if call.caller is None or not call.target:
            return
        call.resource = resource
        self._decide(call, call.caller, self._holder.policy(for_write=call.method.is_write), resource)

    def again(self, call: Call) -> None:
        """Ask again about a call that was let pass, by the policy that holds now.

        Raises:
            PermissionDeniedError: the policy says no by now.
            TokenRevokedError: the caller's token was taken back meanwhile.
            TokenExpiredError: it has ended meanwhile.
        """
        caller = call.caller
        if caller is None or not call.target:
            return
        self._decide(call, caller, self._holder.policy(), call.target)

    def _decide(self, call: Call, caller: Caller, policy: Policy, target: str) -> None:
        now = time.time()
        if now >= caller.end:
            call.decision = "the access token has ended"
            raise TokenExpiredError("the access token has ended; go on with a new one")
        revoked = policy.token_refusal(caller.subject, caller.uid, caller.key, caller.issued, now)
        if revoked:
            call.decision = revoked
            raise TokenRevokedError(f"{revoked}; get a new one", subject=caller.subject)
        permission = call.method.permission
        decision = policy.decide(caller.subject, caller.role, permission, target, caller.tenant, now)
        call.decision, call.target = decision.by, target
        if not decision.allowed:
            raise _denied(call, caller, policy, decision, target)


def _denied(call: Call, caller: Caller, policy: Policy, decision: Decision, target: str) -> PermissionDeniedError:
    """The refusal: with the call's uid, by which the record is found, and with the rule for those who may know it."""
    permission, shown, more = call.method.permission, "", ""
    home = f"{PLATFORM}/{caller.tenant}"
    if policy.decide(caller.subject, caller.role, EXPLAIN, home, caller.tenant).allowed:
        shown, more = decision.by, f" ({decision.by})"
    denied = PermissionDeniedError(
        f"{caller.subject} lacks {permission} on {target}{more}",
        permission=permission,
        resource=target,
        subject=caller.subject,
        decision=call.uid,
    )
    if shown:
        denied.metadata["rule"] = shown
    return denied


def _resource(method: Method, request: Message, tenant: str) -> str:
    """The resource that a request is about."""
    if method.template:
        field = _field(method.template)
        name = str(getattr(request, field))
        named = _named if len(name) <= _SHORT else _named.__wrapped__
        return named(method.template, field, name, tenant, whole=method.whole)
    if method.resource is None:
        return f"{PLATFORM}/{tenant}"
    name = method.resource.value(request)
    if not any(fits(pattern, name) for pattern in method.resource.patterns):
        expected = " or ".join(f"`{pattern}`" for pattern in method.resource.patterns)
        raise InvalidError(method.resource.dotted, f"must look like {expected}", value=name[:200])
    return name


@cache
def _field(template: str) -> str:
    """The request's field that a resource of this form is named by."""
    return template.rsplit("{", 1)[1].rstrip("}")


@lru_cache(maxsize=4096)
def _named(template: str, field: str, name: str, tenant: str, *, whole: bool) -> str:
    """The resource of a form that a bare or a whole name in a field stands for.

    Raises:
        InvalidError: for none.
    """
    name = name.partition(":")[0]  # what follows is one of its versions' aliases
    if whole and not name:
        return f"{PLATFORM}/{tenant}"
    below = template.replace("{tenant}", tenant).replace(f"{{{field}}}", name)
    full = name if name.startswith("tenants/") else below
    if not fits(template, full):  # a made-up name could be as long as a message
        raise InvalidError(field, f"must be an id of lower-case letters, digits and hyphens, or {template}")
    return full
