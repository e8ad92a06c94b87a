"""Whether a version is signed by somebody who is trusted: looked at before each time it is opened.

The form of signatures is `mesh.model_signature`'s.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from engine.errors import SignatureError
from mesh.identity import SYSTEM_TENANT
from mesh.model_signature import (
    SIGNATURE_FILE,
    KeyFileError,
    SignatureInvalidError,
    digests_of,
    public_key,
    verify,
)
from mesh.resource import tenant_of

__all__ = ["Signatures"]


class Signatures:
    """Checks signatures.

    What ships with the platform is exempt: whoever can write its folder can write the engine beside it.

    Args:
        keys: a folder of public keys: those in it are trusted for all tenants, those in a folder of a tenant's name
            below it for that tenant. It is read each time, so that a key that was taken away is trusted no more.
    """

    def __init__(self, keys: Path) -> None:
        self._keys = keys

    def check(self, name: str, folder: Path) -> str:
        """See that a version's files are what was signed. Reads all of them.

        Args:
            name: of the version.
            folder: with its files.

        Returns:
            The id of the key; empty for what ships with the platform.

        Raises:
            SignatureError: they are not; the message says why.
        """
        tenant = tenant_of(name)
        if tenant == SYSTEM_TENANT:
            return ""
        path = folder / SIGNATURE_FILE
        if not path.is_file():
            raise SignatureError(
                f"{SIGNATURE_FILE}: is missing, and engine.signatures is `require`; "
                "sign the folder with `tiation models sign FOLDER --key KEY`, then push it"
            )
        with path.open("rb") as file:
            envelope = file.read((1 << 20) + 1)
        try:
            return verify(envelope, digests_of(folder), self._trusted(tenant))
        except SignatureInvalidError as error:
            raise SignatureError(str(error)) from None

    def _trusted(self, tenant: str) -> list[Ed25519PublicKey]:
        found = []
        for path in (*sorted(self._keys.glob("*.pem")), *sorted((self._keys / tenant).glob("*.pem"))):
            try:
                found.append(public_key(path.read_bytes()))
            except KeyFileError as error:
                raise SignatureError(f"engine.signature_keys: {path.name} {error}") from None
        return found
