"""Access tokens as a service checks them: ours, for us, now; everything else is refused for its own reason."""

from __future__ import annotations

import json

import pytest
from joserfc import jws
from joserfc.jwk import OctKey

from mesh.tokens import (
    AUDIENCE,
    TokenAudienceError,
    TokenExpiredError,
    TokenInvalidError,
    TokenVerifier,
)
from security.signing import SigningKey

NOW = 1_000_000
ISSUER = "https://tests.local"
CLAIMS = {
    "iss": ISSUER, "aud": AUDIENCE, "sub": "tenants/default/principals/ann", "tenant": "default", "role": "viewer",
    "jti": "t1", "nbf": NOW, "exp": NOW + 60,
}  # fmt: skip


@pytest.fixture
def key(tmp_path) -> SigningKey:
    return SigningKey.open(tmp_path / "key.pem", ISSUER)


@pytest.fixture
def verifier(key) -> TokenVerifier:
    return TokenVerifier(key.jwks, issuer=ISSUER)


def signed(key: SigningKey, **changed: object) -> str:
    """A token whose signature holds, whatever it says; a claim that is None is left out."""
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    return jws.serialize_compact({"alg": "ES256", "kid": key.key_id}, json.dumps(claims), key.key)


def test_what_was_signed_for_us_holds_and_says_who(key, verifier):
    claims = verifier.verify(signed(key), NOW + 1)
    assert (claims.tenant, claims.subject, claims.role, claims.token_id) == (
        "default", "tenants/default/principals/ann", "viewer", "t1",
    )  # fmt: skip
    made = key.token(tenant="t", subject="s", role="", token_id="j", begin=NOW, end=NOW + 9)
    assert verifier.verify(made, NOW).tenant == "t"


@pytest.mark.parametrize("audience", ["elsewhere", "", None, ["tiation", "elsewhere"], "Tiation"])
def test_a_token_for_another_audience_is_refused(key, verifier, audience):
    with pytest.raises(TokenAudienceError, match="another audience than `tiation`"):
        verifier.verify(signed(key, aud=audience), NOW)


@pytest.mark.parametrize("issuer", ["https://elsewhere.local", "", None])
def test_a_token_of_another_issuer_is_refused(key, verifier, issuer):
    with pytest.raises(TokenInvalidError, match="issued by somebody else"):
        verifier.verify(signed(key, iss=issuer), NOW)


@pytest.mark.parametrize("now", [NOW + 60, NOW + 3600, NOW - 6])
def test_a_token_holds_from_its_begin_to_its_end_also_when_it_is_known(key, verifier, now):
    token = signed(key)
    verifier.verify(token, NOW)
    with pytest.raises(TokenExpiredError):
        verifier.verify(token, now)


@pytest.mark.parametrize("claim", ["tenant", "sub", "exp"])
def test_a_token_without_a_claim_is_refused(key, verifier, claim):
    with pytest.raises(TokenInvalidError, match="lacks a claim"):
        verifier.verify(signed(key, **{claim: None}), NOW)


def test_a_token_that_somebody_else_signed_or_changed_is_refused(key, verifier, tmp_path):
    stranger = SigningKey.open(tmp_path / "stranger.pem", ISSUER)
    head, body, signature = signed(key).split(".")
    other = signed(key, sub="tenants/default/principals/eve").split(".")[1]
    secret = OctKey.import_key(key.jwks)
    symmetric = jws.serialize_compact({"alg": "HS256", "kid": key.key_id}, json.dumps(CLAIMS), secret)
    for token in (
        signed(stranger),
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        symmetric,
        "a.b.c",
        "",
        "x" * 5000,
    ):
        with pytest.raises(TokenInvalidError):
            verifier.verify(token, NOW)
