"""The word of one service to another: held by its key, its audience, its minute."""

from __future__ import annotations

import json

import pytest

from mesh.assertion import LIFE_S, WordInvalidError, sign, verify
from mesh.config import Settings
from mesh.identity import Requester
from security.app import bootstrap, issue_svid

ISSUER = "spiffe://tiation.local/svc/orchestrator"
REQUESTER = Requester("acme", "tenants/acme/principals/ada", "tenants/acme/agents/a", "tenants/acme/agents/a/runs/r")
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def svids(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    bootstrap(home, Settings())
    return [issue_svid(home, Settings(), "orchestrator") for _ in range(2)]


def signed(svid, **changed):
    arguments = {"issuer": ISSUER, "audience": "engine", "now": NOW, **changed}
    return sign(svid["private_key"].encode(), REQUESTER, **arguments)


def opened(word, svid, **changed):
    arguments = {"issuer": ISSUER, "audience": "engine", "now": NOW, **changed}
    return verify(word, svid["certificate_chain"].encode(), **arguments)


def test_what_was_signed_is_what_is_read(svids):
    assert opened(signed(svids[0]), svids[0]) == REQUESTER


@pytest.mark.parametrize(
    "how",
    [
        {"now": NOW + LIFE_S + 6},
        {"now": NOW - LIFE_S - 6},
        {"audience": "integration"},
        {"issuer": "spiffe://tiation.local/svc/engine"},
    ],
)
def test_a_word_too_old_too_new_or_for_others_is_refused(svids, how):
    with pytest.raises(WordInvalidError):
        opened(signed(svids[0]), svids[0], **how)


def test_a_word_signed_by_another_key_or_changed_is_refused(svids):
    word = signed(svids[0])
    with pytest.raises(WordInvalidError):
        opened(word, svids[1])
    head, body, signature = word.split(".")
    for changed in (f"{head}.{body[:-2]}AA.{signature}", f"{head}.{body}", "", "a.b.c", json.dumps({"alg": "none"})):
        with pytest.raises(WordInvalidError):
            opened(changed, svids[0])
