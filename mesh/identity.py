"""Who is asking: SPIFFE IDs of workloads, and the caller of the current call.

How a caller is established from certificates and tokens lives in `mesh.stages.identity`, not here.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from math import inf

__all__ = [
    "SYSTEM_TENANT",
    "Caller",
    "Requester",
    "current_caller",
    "issuer_of",
    "set_caller",
    "spiffe_id",
    "workload_of",
]

SYSTEM_TENANT = "system"


@dataclass(frozen=True, slots=True)
class Caller:
    """The one on whose behalf a call is made, and who makes it.

    Attributes:
        tenant: the tenant the call acts in, `default`.
        subject: `tenants/{tenant}/principals/{principal}`, or a SPIFFE ID where a service acts for itself.
        actor: who acts for the subject, `tenants/{tenant}/agents/{agent}`; empty where the subject does itself.
        run: the run that makes the call; empty outside runs.
        peer: the SPIFFE ID at the other end of the connection.
        role: only what this role allows, where the token says so; empty means everything the subject has.
        token_id: identifier of the token; empty for assertions and services.
        uid: which principal of the subject's name; empty where that is not known.
        key: uid of the API key behind the token; empty for assertions and services.
        issued: when the token was issued, seconds since the epoch; `inf` for assertions and services.
        end: when the token ends, likewise.
    """

    tenant: str
    subject: str
    peer: str
    actor: str = ""
    run: str = ""
    role: str = ""
    token_id: str = ""
    uid: str = ""
    key: str = ""
    issued: float = inf
    end: float = inf

    @property
    def is_user(self) -> bool:
        """True where somebody asks with a token of their own, not a service for itself or for a run."""
        return bool(self.token_id)

    @property
    def is_service(self) -> bool:
        """True where a service of the mesh acts for itself."""
        return self.subject.startswith("spiffe://")


@dataclass(frozen=True, slots=True)
class Requester:
    """On whose behalf a service calls another one: what the signed assertion says.

    Attributes:
        tenant: the tenant to act in.
        subject: the principal, `tenants/{tenant}/principals/{principal}`.
        actor: the agent that acts for it.
        run: the run's name.
        role: only what this role allows; empty means everything the subject has.
        uid: which principal of the subject's name; empty where that is not known.
    """

    tenant: str
    subject: str
    actor: str = ""
    run: str = ""
    role: str = ""
    uid: str = ""


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_caller() -> Caller:
    """The caller of the call being served.

    Raises:
        LookupError: outside a call.
    """
    caller = _caller.get()
    if caller is None:
        raise LookupError("there is no caller outside a call")
    return caller


def set_caller(caller: Caller | None) -> None:
    """Set the caller of the current task; the identity stage does this once a call."""
    _caller.set(caller)


def issuer_of(trust_domain: str) -> str:
    """The issuer that access tokens name."""
    return f"https://{trust_domain}"


def spiffe_id(trust_domain: str, service: str) -> str:
    """The SPIFFE ID of a service: `spiffe://tiation.local/svc/engine`."""
    return f"spiffe://{trust_domain}/svc/{service}"


def workload_of(identity: str, trust_domain: str) -> str:
    """The service's name in a SPIFFE ID of this trust domain; empty for any other text."""
    prefix = f"spiffe://{trust_domain}/svc/"
    return identity.removeprefix(prefix) if identity.startswith(prefix) else ""
