"""Who is asking: from the peer's certificate, and the token or assertion it passes on.

Whether the caller may do what it asks is decided in `mesh.stages.access`.
"""

from __future__ import annotations

import time
from typing import Protocol

from mesh import assertion
from mesh.call import Call
from mesh.channel import ASSERTION_HEADER
from mesh.errors import Code, TiationError
from mesh.identity import SYSTEM_TENANT, Caller, workload_of
from mesh.tokens import Claims, TokenMissingError

__all__ = ["CallerNotAllowedError", "IdentityStage", "PeerUnknownError", "Verifier"]

GATEWAY = "gateway"


class PeerUnknownError(TiationError):
    """The peer's certificate names no workload of this trust domain."""

    code = Code.UNAUTHENTICATED
    reason = "PEER_UNKNOWN"


class CallerNotAllowedError(TiationError):
    """The peer is known, but this method is not for it."""

    code = Code.PERMISSION_DENIED
    reason = "CALLER_NOT_ALLOWED"


class Verifier(Protocol):
    """Checks access tokens."""

    def verify(self, token: str, now: float) -> Claims:
        """The claims of a token that holds."""


class IdentityStage:
    """Establishes the caller.

    Args:
        service: the service's name: the audience of assertions.
        trust_domain: the mesh's SPIFFE trust domain.
        verifier: checks access tokens.
    """

    def __init__(self, service: str, trust_domain: str, verifier: Verifier) -> None:
        self._service = service
        self._trust_domain = trust_domain
        self._verifier = verifier

    def run(self, call: Call) -> None:
        """Set the call's peer and caller.

        Raises:
            PeerUnknownError: the certificate is of no workload.
            CallerNotAllowedError: the workload may not call this method, or not for somebody else.
            TokenError: the token or assertion does not hold.
        """
        peers = call.context.auth_context().get("peer_spiffe_id", ())
        call.peer = next(iter(peers), b"").decode()
        workload = workload_of(call.peer, self._trust_domain)
        if not workload:
            raise PeerUnknownError("the certificate carries no SPIFFE ID of this trust domain")
        call.caller = self._caller(call, workload)

    def _caller(self, call: Call, workload: str) -> Caller:
        method = call.method
        listed = workload in method.callers
        if method.internal and not listed:
            raise CallerNotAllowedError(f"{method.name} is not for {workload}", method=method.name, peer=call.peer)
        if (signed := call.metadata.get(ASSERTION_HEADER)) is not None:
            return self._asserted(call, signed, workload, listed=listed)
        token = call.metadata.get("authorization")
        if token is not None and not method.anyone and (listed or workload == GATEWAY):
            return self._bearer(call, token)
        if method.anyone or (listed and not method.permission):
            return Caller(tenant=SYSTEM_TENANT, subject=call.peer, peer=call.peer)
        if workload == GATEWAY:
            raise TokenMissingError("send an access token as `authorization: Bearer …`; `tiation token` prints one")
        raise CallerNotAllowedError(f"{method.name} is not for {workload}", method=method.name, peer=call.peer)

    def _asserted(self, call: Call, signed: str, workload: str, *, listed: bool) -> Caller:
        """The one for whom a service acts, as it has signed with the key of the very certificate it shows."""
        if not listed or workload == GATEWAY:
            raise CallerNotAllowedError(f"{workload} may not pass on a caller to {call.method.name}", peer=call.peer)
        certificate = next(iter(call.context.auth_context()["x509_pem_cert"]))
        requester = assertion.verify(signed, certificate, issuer=call.peer, audience=self._service, now=time.time())
        return Caller(
            tenant=requester.tenant,
            subject=requester.subject,
            actor=requester.actor,
            run=requester.run,
            role=requester.role,
            uid=requester.uid,
            peer=call.peer,
        )

    def _bearer(self, call: Call, header: str) -> Caller:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenMissingError("the authorization header must read `Bearer` and an access token")
        claims = self._verifier.verify(token.strip(), time.time())
        return Caller(
            tenant=claims.tenant,
            subject=claims.subject,
            role=claims.role,
            token_id=claims.token_id,
            uid=claims.uid,
            key=claims.key,
            issued=claims.issued,
            end=claims.end,
            peer=call.peer,
        )
