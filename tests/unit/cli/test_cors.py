"""Which origins the settings may name, and whom they let in."""

from __future__ import annotations

import re

import pytest

from cli.gateway.cors import cors_policy
from mesh.config import SettingsError


def allowed(policy: dict, origin: str) -> bool:
    """Whether a browser's origin is let in, as the front proxy matches: whole texts."""
    return any(
        origin == matcher.get("exact")
        or ("safe_regex" in matcher and re.fullmatch(matcher["safe_regex"]["regex"], origin))
        for matcher in policy["allow_origin_string_match"]
    )


def test_without_origins_nobody_is_let_in():
    assert cors_policy([])["allow_origin_string_match"] == []


@pytest.mark.parametrize(
    ("named", "origin", "expected"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://b.example", False),
        ("https://a.example", "http://a.example", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("https://*.example", "https://a.example", True),
        ("https://*.example", "https://a.b.example", True),
        ("https://*.example", "https://example", False),
        ("https://*.example", "https://a-example", False),
        ("https://*.example", "https://a.example.evil", False),
        ("https://*.example:8443", "https://a.example:8443", True),
        ("https://*.example:8443", "https://a.example", False),
    ],
)  # fmt: skip
def test_an_origin_lets_in_what_it_says(named: str, origin: str, expected: bool):
    assert bool(allowed(cors_policy([named]), origin)) is expected


@pytest.mark.parametrize(
    "named",
    [
        "*", "example.com", "ftp://a.example", "https://a.example/", "https://a.*.example", "https://a*.example",
        "https://", "",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused_by_name(named: str):
    with pytest.raises(SettingsError, match=r"gateway\.cors_origins"):
        cors_policy([named])
