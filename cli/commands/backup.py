"""`backup` and `restore`: a whole home in one encrypted file, and back."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.client import FileError
from cli.home import Home, HomeInUseError, NotRunningError
from cli.options import home_option, output_option
from cli.secret_file import new_secret_file

if TYPE_CHECKING:
    from cli.backup.archive import Summary

__all__ = ["backup", "restore"]


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option(
    "--recipient", "-r", multiple=True, metavar="AGE1…", help="Who may open it, an age public key; repeatable."
)
@click.option(
    "--new-key", type=click.Path(dir_okay=False, path_type=Path), help="Make a key for opening backups in this file."
)
@home_option
@output_option
def backup(file: Path | None, recipient: tuple[str, ...], new_key: Path | None, home: Home, output: str) -> None:
    """Write everything in the home, and its PostgreSQL database, to FILE, encrypted; the platform may be running.

    Keep the key away from the home: a backup that only the lost disk could open is none.

    \b
    Example:
      tiation backup --new-key backup.key
      tiation backup nightly.age -r age1…
    """  # noqa: D301 -- \b is click's
    import pyrage

    if new_key is not None:
        public = _make_key(new_key)
        click.echo(json.dumps({"recipient": public}) if output == "json" else f"{new_key} opens what is for {public}")
        recipient = (*recipient, public)
        if file is None:
            return
    if file is None:
        raise click.UsageError("say where the backup goes: tiation backup FILE -r AGE1…")
    if not recipient:
        raise click.UsageError("say who may open it with -r; `tiation backup --new-key backup.key` makes a key")
    try:
        recipients = [pyrage.x25519.Recipient.from_str(text) for text in recipient]
    except pyrage.RecipientError:
        raise click.UsageError("-r takes age public keys, which begin with age1") from None
    if not (home.path / "security").is_dir():
        raise NotRunningError(f"{home.path} is no home of a platform; give one with --home")
    if file.resolve().is_relative_to(home.path):
        raise click.UsageError("the backup would lie in the home that it is to save; choose a place elsewhere")
    from cli.backup.archive import write_archive
    from mesh.config import load_settings

    say = click.echo if output == "table" else lambda _: None
    database = load_settings(home.path).database
    summary = write_archive(home.path, file, recipients, version("tiation"), say, database=database)
    _tell(summary, file, output, "written")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--identity", "-i", multiple=True, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with an age key that may open it; repeatable.",
)  # fmt: skip
@click.option("--check", "check_only", is_flag=True, help="Only check that it could be restored.")
@home_option
@output_option
def restore(file: Path, identity: tuple[Path, ...], home: Home, *, check_only: bool, output: str) -> None:
    """Bring a backup back into an empty home; `tiation up` then goes on where it was taken.

    What was in PostgreSQL goes into the empty database that `database` names: in TIATION_DATABASE, in a tiation.yaml
    that is in the home already, or else in the backup's own.

    \b
    Example:
      tiation restore nightly.age -i backup.key --home /var/lib/tiation
    """  # noqa: D301 -- \b is click's
    if home.holder() is not None and not check_only:
        raise HomeInUseError(f"a platform runs on {home.path}; `tiation down` stops it, `--home` names another home")
    from cli.backup.restore import restore_archive

    say = click.echo if output == "table" else lambda _: None
    summary = restore_archive(file, home.path, _identities(identity), say, check_only=check_only)
    _tell(summary, file, output, "could be restored" if check_only else f"restored to {home.path}")


def _identities(files: tuple[Path, ...]) -> list[Any]:
    """The age keys in files; lines that begin with # are comments.

    Raises:
        FileError: a file holds none.
    """
    import pyrage

    found = []
    for path in files:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
        keys = [line for line in lines if line.startswith("AGE-SECRET-KEY-")]
        try:
            found += [pyrage.x25519.Identity.from_str(key) for key in keys]
        except pyrage.IdentityError:
            keys = []
        if not keys:
            raise FileError(f"{path}: holds no age key; `tiation backup --new-key FILE` makes one", file=path)
    return found


def _make_key(path: Path) -> str:
    """Write a new age key to a file of its own; returns the public part."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    with new_secret_file(path) as write:
        write(f"# opens backups for {public}\n{identity}\n")
    return public


def _tell(summary: Summary, file: Path, output: str, what: str) -> None:
    size = sum(member.size_bytes for member in summary.members)
    if output == "json":
        found = {"file": str(file), "release": summary.release, "files": len(summary.members), "size_bytes": size}
        click.echo(json.dumps(found))
    else:
        click.echo(f"{file} {what}: {len(summary.members)} files, {size / 1e6:.1f} MB")
