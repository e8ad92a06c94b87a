"""Who is asking, by certificate and token: what a token says is remembered, whether it holds is asked each time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tiation.engine.v1 import model_pb2

from mesh.call import Call
from mesh.methods import methods_of
from mesh.stages.identity import IdentityStage, PeerUnknownError
from mesh.tokens import Claims, TokenExpiredError, TokenMissingError

DOMAIN = "tiation.local"
GATEWAY = b"spiffe://tiation.local/svc/gateway"


class Tokens:
    """Knows one token, and is asked for it."""

    def __init__(self) -> None:
        self.claims = Claims("default", "tenants/default/principals/ada", "", "token-1", 0.0, 1e12)
        self.asked: list[str] = []

    def verify(self, token: str, now: float) -> Claims:
        self.asked.append(token)
        if now >= self.claims.end:
            raise TokenExpiredError("the access token has expired")
        return self.claims


def call_of(peer: bytes | None, **metadata: str) -> Call:
    """A call of ListModels by that peer."""
    service = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
    method = methods_of([service])[f"/{service}/ListModels"]
    auth = {"peer_spiffe_id": [] if peer is None else [peer]}
    return Call(method, SimpleNamespace(auth_context=lambda: auth), metadata, "uid", 0, 0)


def subjects(stage: IdentityStage, *calls: Call) -> list[str]:
    """For whom the calls are made."""
    for call in calls:
        stage.run(call)
    return [call.caller.subject for call in calls]


def test_a_token_is_asked_about_at_every_call_and_follows_what_is_said_of_it_now():
    tokens = Tokens()
    stage = IdentityStage("engine", DOMAIN, tokens)
    calls = [call_of(GATEWAY, authorization="Bearer  abc ") for _ in range(2)]
    assert subjects(stage, *calls) == ["tenants/default/principals/ada"] * 2
    assert calls[0].caller is calls[1].caller
    assert calls[0].peer == GATEWAY.decode()
    assert set(tokens.asked) == {"abc"}
    tokens.claims = Claims("default", "tenants/default/principals/bob", "viewer", "token-2", 0.0, 1e12)
    again = call_of(GATEWAY, authorization="Bearer  abc ")
    assert subjects(stage, again) == ["tenants/default/principals/bob"]
    assert again.caller.role == "viewer"
    tokens.claims = Claims("default", "tenants/default/principals/bob", "", "token-2", 0.0, 1.0)
    with pytest.raises(TokenExpiredError):
        stage.run(call_of(GATEWAY, authorization="Bearer  abc "))


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "bearerabc"])
def test_another_header_is_no_token(header: str):
    stage = IdentityStage("engine", DOMAIN, Tokens())
    for _ in range(2):
        with pytest.raises(TokenMissingError):
            stage.run(call_of(GATEWAY, authorization=header))


@pytest.mark.parametrize(
    "peer", [None, b"", b"spiffe://elsewhere.org/svc/gateway", b"https://tiation.local/svc/gateway"]
)
def test_a_certificate_of_nobody_here_is_refused_each_time(peer: bytes | None):
    stage = IdentityStage("engine", DOMAIN, Tokens())
    for _ in range(2):
        with pytest.raises(PeerUnknownError):
            stage.run(call_of(peer, authorization="Bearer abc"))
