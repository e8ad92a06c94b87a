"""Signatures of webhooks: the vectors that the senders publish, the edges of the window, and everything mangled."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from integration.errors import SignatureInvalidError
from integration.signatures import Signing, key_of, new_secret, signature_headers, verified

STANDARD = Signing()
GITHUB = Signing("HMAC_SHA256_HEX", "x-hub-signature-256", "sha256=")
STRIPE = Signing("TIMESTAMPED", "stripe-signature", "v1=")
SLACK = Signing("TIMESTAMPED", "x-slack-signature", "v0=", "x-slack-request-timestamp", "v0:{timestamp}:{body}")

# The example of the Standard Webhooks specification (its libraries test themselves with it).
SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SPEC_BODY = b'{"test": 2432232314}'
SPEC = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
# "Validating webhook deliveries" in GitHub's documentation.
GITHUB_SECRET, GITHUB_BODY = "It's a Secret to Everybody", b"Hello, World!"
GITHUB_HEADERS = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
# "Verifying requests from Slack" in Slack's documentation.
SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a1"
    b"4d10d2c447fce8b6703c"
)
SLACK_HEADERS = {
    "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    "x-slack-request-timestamp": "1531420618",
}
# The header in Stripe's documentation has this form, a signature of another scheme beside it; no secret is published.
STRIPE_SECRET, STRIPE_BODY, STRIPE_TIME = "whsec_any-text-is-a-secret", b'{"id": "evt_1"}', 1492774577
STRIPE_MAC = hmac.new(STRIPE_SECRET.encode(), b"1492774577." + STRIPE_BODY, hashlib.sha256).hexdigest()
STRIPE_HEADERS = {"stripe-signature": f"t={STRIPE_TIME}, v1={'0' * 64},v1={STRIPE_MAC},v0={'6' * 64}"}

PUBLISHED = {
    "standard": (STANDARD, SPEC_SECRET, SPEC, SPEC_BODY, 1614265330),
    "github": (GITHUB, GITHUB_SECRET, GITHUB_HEADERS, GITHUB_BODY, 0),
    "slack": (SLACK, SLACK_SECRET, SLACK_HEADERS, SLACK_BODY, 1531420618),
    "stripe": (STRIPE, STRIPE_SECRET, STRIPE_HEADERS, STRIPE_BODY, STRIPE_TIME),
}


def check(signing, secret, headers, body, now, tolerance_s=300.0):
    secrets = [secret] if isinstance(secret, str) else secret
    return verified(signing, secrets, headers, body, now=now, tolerance_s=tolerance_s)


def refused(signing, secret, headers, body, now, tolerance_s=300.0):
    with pytest.raises(SignatureInvalidError) as caught:
        check(signing, secret, headers, body, now, tolerance_s)
    assert caught.value.message == "the signature does not hold"
    assert caught.value.metadata == {}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_sender_publishes_as_its_example_holds(name):
    signed = check(*PUBLISHED[name])
    assert signed.message_id == (SPEC["webhook-id"] if name == "standard" else "")


@pytest.mark.parametrize("name", PUBLISHED)
def test_another_secret_another_body_and_no_headers_do_not_hold(name):
    signing, secret, headers, body, now = PUBLISHED[name]
    refused(signing, new_secret(), headers, body, now)
    refused(signing, [], headers, body, now)
    refused(signing, secret, {}, body, now)
    refused(signing, secret, headers, body + b" ", now)
    refused(signing, secret, headers, b"", now)
    for missing in headers:
        refused(signing, secret, {name: text for name, text in headers.items() if name != missing}, body, now)


@pytest.mark.parametrize("name", ["standard", "slack", "stripe"])
def test_the_window_is_closed_at_both_ends(name):
    signing, secret, headers, body, at = PUBLISHED[name]
    for now in (at - 300, at, at + 300):
        check(signing, secret, headers, body, now)
    for now in (at - 300.001, at - 301, at + 300.001, at + 10**6):
        refused(signing, secret, headers, body, now)
    check(signing, secret, headers, body, at + 900, tolerance_s=900)


@pytest.mark.parametrize("name", PUBLISHED)
def test_any_of_several_secrets_will_do_while_they_are_changed(name):
    signing, secret, headers, body, now = PUBLISHED[name]
    for secrets in ([new_secret(), secret], [secret, new_secret()]):
        check(signing, secrets, headers, body, now)


@pytest.mark.parametrize("name", PUBLISHED)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_single_bit_of_the_body_decides(name, at, flip):
    signing, secret, headers, body, now = PUBLISHED[name]
    mangled = bytearray(body)
    mangled[at % len(body)] ^= flip
    refused(signing, secret, headers, bytes(mangled), now)


@pytest.mark.parametrize("name", PUBLISHED)
@given(data=st.data())
def test_mangled_headers_never_hold_and_never_fail_otherwise(name, data):
    signing, secret, headers, body, now = PUBLISHED[name]
    which = data.draw(st.sampled_from(sorted(headers)))
    text = data.draw(st.text(max_size=200) | st.from_regex(r"(v1,|t=|v1=|v0=|sha256=)?[0-9a-fA-F+/=, ]{0,100}"))
    if text.strip() != headers[which]:
        refused(signing, secret, {**headers, which: text}, body, now)


@given(body=st.binary(max_size=500), noise=st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=5))
def test_a_body_of_any_bytes_holds_as_it_was_sent(body, noise):
    secret = new_secret()
    headers = signature_headers([key_of(secret)], "msg_1", 1_700_000_000, body)
    assert check(STANDARD, secret, {**noise, **headers}, body, 1_700_000_000).message_id == "msg_1"


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek.1"),  # the full stop parts the id from the time
        ("webhook-id", "msg p"),
        ("webhook-id", "m" * 300),
        ("webhook-timestamp", "1614265330.0"),
        ("webhook-timestamp", "-1614265330"),
        ("webhook-timestamp", "\uff11\uff16\uff11\uff14\uff12\uff16\uff15\uff13\uff13\uff10"),
        ("webhook-timestamp", "1" * 30),
        ("webhook-signature", SPEC["webhook-signature"].replace("v1,", "v2,")),
        ("webhook-signature", SPEC["webhook-signature"].removeprefix("v1,")),
        ("webhook-signature", SPEC["webhook-signature"].replace("+", "%2B")),
        ("webhook-signature", " ".join(["v1,AAAA"] * 40 + [SPEC["webhook-signature"]])),
    ],
)
def test_headers_in_another_form_are_refused(header, text):
    refused(STANDARD, SPEC_SECRET, {**SPEC, header: text}, SPEC_BODY, 1614265330)


def test_the_end_of_an_id_cannot_be_moved_into_the_time():
    secret, body = new_secret(), b"1614265330.{}"
    signed = signature_headers([key_of(secret)], "msg", 1, body)
    moved = {**signed, "webhook-id": "msg.1", "webhook-timestamp": "1614265330"}
    refused(STANDARD, secret, moved, b"{}", 1614265330)


def test_a_second_time_in_a_header_is_refused():
    twice = {"stripe-signature": f"t={STRIPE_TIME},{STRIPE_HEADERS['stripe-signature']}"}
    refused(STRIPE, STRIPE_SECRET, twice, STRIPE_BODY, STRIPE_TIME)


@given(
    body=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    message_id=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
)
def test_we_sign_as_the_library_of_the_specification_does(body, message_id):
    secret = new_secret()
    moment = datetime.now(UTC)
    made = signature_headers([key_of(secret)], message_id, int(moment.timestamp()), body.encode())
    theirs = standardwebhooks.Webhook(secret)
    assert made["webhook-signature"] == theirs.sign(message_id, moment, body)
    theirs.verify(body, made, json_parse=False)


def test_while_a_secret_is_changed_both_sign_and_either_holds():
    new, old = new_secret(), new_secret()
    now = int(datetime.now(UTC).timestamp())
    headers = signature_headers([key_of(new), key_of(old)], "msg_1", now, b"{}")
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (new, old):
        standardwebhooks.Webhook(secret).verify(b"{}", headers)
        check(STANDARD, secret, headers, b"{}", now)


def secret_of(size: int) -> str:
    return "whsec_" + base64.b64encode(b"k" * size).decode()


def test_secrets_are_24_to_64_bytes_in_base64():
    assert [len(key_of(secret_of(size))) for size in (24, 64)] == [24, 64]
    assert len(key_of(new_secret())) == 32
    assert new_secret() != new_secret()
    for wrong in (secret_of(23), secret_of(65), "whsec_", "whsec_%%%", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ü"):
        with pytest.raises(ValueError, match=r"must|holds") as caught:
            key_of(wrong)
        assert wrong.removeprefix("whsec_") == "" or wrong not in str(caught.value)
