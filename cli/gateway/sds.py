"""The front proxy's certificates, in files that it watches (Envoy's secret discovery service, from disk).

Certificate and key stand in one file that is replaced at once, so that no rotation shows one without the other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from mesh.svid import write_private

__all__ = ["SECRETS", "write_front", "write_own", "write_svid"]

SECRETS = {"svid": "sds-svid.json", "bundle": "sds-bundle.json", "front": "sds-front.json", "own": "sds-own.json"}
"""File names by the secret's name."""


def write_svid(folder: Path, document: Mapping[str, str]) -> None:
    """Replace what the proxy shows to services, and what it trusts."""
    _write(
        folder / SECRETS["bundle"], "bundle", {"validation_context": {"trusted_ca": _inline(document["trust_bundle"])}}
    )
    _write(folder / SECRETS["svid"], "svid", {"tls_certificate": _certificate(document)})


def write_front(folder: Path, document: Mapping[str, str]) -> None:
    """Replace what the proxy shows to clients."""
    _write(folder / SECRETS["front"], "front", {"tls_certificate": _certificate(document)})


def write_own(folder: Path, document: Mapping[str, str]) -> None:
    """Replace what the proxy shows to clients that ask for a name in the operator's own certificate."""
    _write(folder / SECRETS["own"], "own", {"tls_certificate": _certificate(document)})


def _certificate(document: Mapping[str, str]) -> dict[str, object]:
    return {
        "certificate_chain": _inline(document["certificate_chain"]),
        "private_key": _inline(document["private_key"]),
    }


def _inline(text: str) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(text.encode()).decode()}


def _write(path: Path, name: str, secret: Mapping[str, object]) -> None:
    resource = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": name, **secret}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, json.dumps({"resources": [resource]}))
