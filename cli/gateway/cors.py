"""Which web pages may call the platform from a browser, and what they may send and see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mesh.config import SettingsError

__all__ = ["cors_policy"]

_SENT = (
    "authorization", "content-type", "connect-protocol-version", "connect-timeout-ms", "grpc-timeout", "if-none-match",
    "inference-header-content-length", "traceparent", "x-grpc-web", "x-user-agent",
)  # fmt: skip
_SEEN = (
    "content-disposition", "etag", "grpc-message", "grpc-status", "grpc-status-details-bin",
    "inference-header-content-length", "retry-after",
)  # fmt: skip


def cors_policy(origins: Sequence[str]) -> dict[str, Any]:
    """The policy for these origins; without any, browsers refuse every page of another origin.

    Raises:
        SettingsError: an entry is no origin.
    """
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [_matcher(origin) for origin in origins],
        "allow_methods": "GET, POST, PATCH, DELETE",
        "allow_headers": ", ".join(_SENT),
        "expose_headers": ", ".join(_SEEN),
        "max_age": "600",
        "forward_not_matching_preflights": False,
    }


def _matcher(origin: str) -> dict[str, Any]:
    parts = urlsplit(origin)
    bare = f"{parts.scheme}://{parts.netloc}"
    labels = parts.netloc.partition(":")[0].split(".")
    if parts.scheme not in ("http", "https") or not parts.netloc or bare != origin or "*" in "".join(labels[1:]):
        raise SettingsError(
            f"gateway.cors_origins: `{origin}` is no origin; write https://console.example.com, or "
            "https://*.example.com for every host below it",
            setting="gateway.cors_origins",
        )
    if labels[0] == "*":
        host = "[a-z0-9-]+(\\.[a-z0-9-]+)*"
        return {"safe_regex": {"regex": re.escape(origin).replace("\\*", host, 1)}}
    if "*" in labels[0]:
        raise SettingsError(f"gateway.cors_origins: `{origin}`: `*` stands for a whole name", setting="cors_origins")
    return {"exact": origin}
