"""Who is asking: from the peer's certificate, and the token or assertion it passes on.

Whether the caller may do what it asks is decided in `mesh.stages.access`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh import assertion
from mesh.call import Call
from mesh.channel import ASSERTION_HEADER
from mesh.errors import Code, TiationError
from mesh.identity import SYSTEM_TENANT, Caller, workload_of
from mesh.tokens import Claims, TokenMissingError

__all__ = ["CallerNotAllowedError", "IdentityStage", "PeerUnknownError", "Verifier"]

GATEWAY = "gateway"
_MAX_KEPT = 4096


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


@dataclass(frozen=True, slots=True)
class _Bearer:
    """A token that was good, and whose it is."""

    token: str
    claims: Claims
    caller: Caller


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
        self._workloads: dict[bytes, tuple[str, str]] = {}
        self._bearers: dict[tuple[str, str], _Bearer] = {}

    def run(self, call: Call) -> None:
        """Set the call's peer and caller.

        Raises:
            PeerUnknownError: the certificate is of no workload.
            CallerNotAllowedError: the workload may not call this method, or not for somebody else.
            TokenError: the token or assertion does not hold.
        """
        peers = call.context.auth_context().get("peer_spiffe_id")
        known = self._workloads.get(peers[0]) if peers else None
        call.peer, workload = known if known is not None else self._workload(peers)
        if not workload:
            raise PeerUnknownError("the certificate carries no SPIFFE ID of this trust domain")
        call.caller = self._caller(call, workload)

    def _workload(self, peers: Sequence[bytes] | None) -> tuple[str, str]:
        """The peer's SPIFFE ID and the name of its service; nothing where it has none, or another domain's."""
        if not peers:
            return "", ""
        peer = peers[0].decode()
        workload = workload_of(peer, self._trust_domain)
        if workload:
            self._workloads[peers[0]] = peer, workload  # our own authority has signed each of them
        return peer, workload

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
        """Whose token it is. That it holds is asked at every call, what follows from it is remembered."""
        key = header, call.peer
        known = self._bearers.get(key)
        if known is not None and self._verifier.verify(known.token, time.time()) is known.claims:
            return known.caller
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenMissingError("the authorization header must read `Bearer` and an access token")
        token = token.strip()
        claims = self._verifier.verify(token, time.time())
        if len(self._bearers) >= _MAX_KEPT:
            self._bearers.clear()
        known = self._bearers[key] = _Bearer(token, claims, _caller_of(claims, call.peer))
        return known.caller


def _caller_of(claims: Claims, peer: str) -> Caller:
    return Caller(
        tenant=claims.tenant,
        subject=claims.subject,
        role=claims.role,
        token_id=claims.token_id,
        uid=claims.uid,
        key=claims.key,
        issued=claims.issued,
        end=claims.end,
        peer=peer,
    )
