"""`models sign` and `models verify`: signatures of a model's folder, made and looked at where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from cli.client import FileError
from cli.document import open_document
from mesh.model_signature import (
    SIGNATURE_FILE,
    KeyFileError,
    SignatureInvalidError,
    digests_of,
    key_id,
    private_key,
    public_key,
    verify,
)
from mesh.model_signature import sign as signed

__all__ = ["SIGNING"]

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option("--key", required=True, type=_FILE, help="The private key, Ed25519 in PEM.")
def sign(folder: Path, key: Path) -> None:
    """Sign the model in FOLDER: writes model.sig beside its files. Any change after that makes it invalid.

    \b
    Example:
      openssl genpkey -algorithm ed25519 -out signing.pem
      openssl pkey -in signing.pem -pubout -out signing.pub.pem
      tiation models sign iris --key signing.pem
    """  # noqa: D301 -- \b is click's
    manifest = folder / "model.yaml"
    if not manifest.exists():
        raise FileError(f"{folder}: model.yaml is missing; it says what the model is", file=manifest)
    name = str(open_document(manifest).values.get("name") or folder.name)
    try:
        opened = private_key(key.read_bytes())
    except KeyFileError as error:
        raise FileError(f"{key}: {error}", file=key) from None
    digests = digests_of(folder)
    (folder / SIGNATURE_FILE).write_bytes(signed(digests, name, opened))
    click.echo(f"{folder / SIGNATURE_FILE}: {len(digests)} files, key {key_id(opened.public_key())}")


@click.command("verify")
@click.argument("folder", type=_FOLDER)
@click.option("--key", "keys", multiple=True, required=True, type=_FILE, help="A public key that is trusted, in PEM.")
def verify_folder(folder: Path, keys: Sequence[Path]) -> None:
    """See that the model in FOLDER is what was signed, as the engine does before it opens it.

    \b
    Example:
      tiation models verify iris --key signing.pub.pem
    """  # noqa: D301 -- \b is click's
    signature = folder / SIGNATURE_FILE
    if not signature.exists():
        raise FileError(f"{signature}: is missing; sign the folder with `tiation models sign`", file=signature)
    trusted = []
    for key in keys:
        try:
            trusted.append(public_key(key.read_bytes()))
        except KeyFileError as error:
            raise FileError(f"{key}: {error}", file=key) from None
    try:
        signer = verify(signature.read_bytes(), digests_of(folder), trusted)
    except SignatureInvalidError as error:
        raise FileError(f"{folder}: {error}", file=folder) from None
    click.echo(f"{folder}: as signed with key {signer}")


SIGNING: Final = (sign, verify_folder)
